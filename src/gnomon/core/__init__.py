"""What at least two rooms share. Core knows no room and names none."""
