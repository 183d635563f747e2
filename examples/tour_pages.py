"""Pages with tables and photographs that come with scikit-learn, as Markdown files: tour_pages.py FOLDER."""

import sys
from importlib.resources import files
from pathlib import Path
from shutil import copyfile

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
photographs = {"china": "A temple with a curved roof behind trees", "flower": "A pink flower, close"}
for name, caption in photographs.items():
    copyfile(str(files("sklearn.datasets.images") / f"{name}.jpg"), folder / f"{name}.jpg")
    (folder / f"{name}.md").write_text(f"# A photograph\n\n![{caption}]({name}.jpg)\n")
for path in sorted(Path(str(files("sklearn.datasets.descr"))).glob("*.rst")):
    lines = path.read_text("utf-8").splitlines()
    # A table of reStructuredText is a row of "=", the names of its columns, and rows below another row of "=".
    page = [f"# {path.stem.replace('_', ' ')}"]
    for line in lines:
        cells = line.split()
        is_rule = len(cells) > 2 and all(set(cell) == {"="} for cell in cells)
        page.append("" if is_rule else line)
    (folder / f"{path.stem}.md").write_text("\n".join(page))
print(len(list(folder.glob("*.md"))), "pages in", folder)
