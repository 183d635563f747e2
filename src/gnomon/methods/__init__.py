"""The rooms: one folder per published method. A room imports core and never another room."""
