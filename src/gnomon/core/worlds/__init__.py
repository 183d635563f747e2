"""Made-up worlds whose truth is known: scenes of objects on a board."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {"Scene": "scenes", "SceneObject": "scenes", "SceneWorld": "scenes"},
)
