"""Boxes and phrases on an image that is encoded once: a small CLIP learns the squares of eight pictures by heart."""

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.train import TrainConfig
from gnomon.methods.cloc import ClocModel, RegionLoss, train
from gnomon.methods.cloc.mini.world import Scale, new_dual, scenes

scale = Scale(width=32, layers=1)
with TemporaryDirectory() as folder:
    items = scenes(scale, 8, Path(folder) / "scenes", Rng(0))
    model = ClocModel(*new_dual(scale, Rng(1)), rng=Rng(2))
    run = Run(Path(folder) / "run", method="cloc", verb="example", quiet=True)
    cfg = TrainConfig(
        lr=3e-3, batch_size=8, epochs=150, reduction="sum", checkpoint_every=0, keep_checkpoints=0
    )
    train(model, items, RegionLoss(text_filter=None), cfg, run=run)
    run.close()

    pictures = [Image.open(item.row.path).convert("RGB") for item in items]
    image = model.encode_image(pictures)  # once; any number of boxes and phrases after that
    names = sorted({str(region.text) for item in items for region in item.regions})
    boxes = [[region.box for region in item.regions] for item in items]
    right = total = 0
    for item, scores in zip(items, model.classify_regions(image, boxes, names), strict=True):
        for region, row in zip(item.regions, scores, strict=True):
            total += 1
            right += names[int(row.argmax())] == region.text
    print(f"{right} of {total} boxes are taken for what they are, of {len(names)} names")
    phrase = str(items[0].regions[0].text)
    ((found_box,), *_) = model.ground(image, [[phrase], *[[] for _ in items[1:]]])
    print(
        f'"{phrase}" is looked for at {[round(n) for n in found_box.box]} and lies at {[round(n) for n in items[0].regions[0].box]}'
    )
