"""Boxes and phrases on an image that is encoded once: a small CLIP learns the squares of eight pictures by heart."""

from pathlib import Path
from tempfile import TemporaryDirectory

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.train import TrainConfig
from gnomon.core.vision.rows import pictures_of
from gnomon.methods.cloc import ClocModel, RegionLoss, train
from gnomon.methods.cloc.mini.world import Scale, new_dual, scenes

scale = Scale(width=32, layers=1)
with TemporaryDirectory() as folder:
    items = scenes(scale, 8, Path(folder) / "scenes", Rng(0))
    model = ClocModel(*new_dual(scale, Rng(1)), rng=Rng(2))
    run = Run(Path(folder) / "run", method="cloc", verb="example", quiet=True)
    cfg = TrainConfig(lr=3e-3, batch_size=8, epochs=150, reduction="sum", checkpoint_every=0)
    train(model, items, RegionLoss(text_filter=None), cfg, run=run)
    run.close()
    image = model.encode_image(pictures_of([items[0].row]))  # once, for any number of boxes and phrases

texts = [str(region.text) for region in items[0].regions]
(scores,) = model.classify_regions(image, [[region.box for region in items[0].regions]], texts)
print("cosine of each box with each of its texts:", scores.round(2).tolist())
for region, result in zip(items[0].regions, model.ground(image, [texts])[0], strict=True):
    print(region.text, [round(n) for n in region.box], "is looked for at", [round(n) for n in result.box])
