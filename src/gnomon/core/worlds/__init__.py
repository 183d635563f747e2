"""Made-up worlds whose truth is known: scenes of objects on a board, a council's records."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {"Fact": "council", "Scene": "scenes", "SceneObject": "scenes", "SceneWorld": "scenes"},
)
