# What was built, tried: the commands of a first day, then quick tests of the sdist, against the installed wheel.
# sh .github/try-wheel.sh BIN SDIST, the environment's bin folder and the unpacked sdist (make wheel-test).
set -eu
bin=$(cd "$1" && pwd) sdist=$(cd "$2" && pwd) work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PATH="$bin:$PATH" CEPH_CACHE="$work/cache" XDG_CONFIG_HOME="$work/config"

python -c 'import ceph, ceph_plugins, sys
assert all(m.__file__.startswith(sys.prefix) for m in (ceph, ceph_plugins)), (ceph.__file__, ceph_plugins.__file__)'
ceph doctor
ceph data synth films --films 16 --height 330
ceph run --data films --plugin heavy-augmentation --set data.size=[64,64] --set model.backbone=test_resnet \
  --set model.weights=none --set train.epochs=1 --out run
ceph predict run films/test --mm-per-px 0.5 --out points.csv --overlays pictures
test "$(wc -l <points.csv)" -eq 59 && test -s run/report.html && test "$(find pictures -name "*.png" | wc -l)" -eq 2

cd "$sdist"
python -P -m pytest -m "not slow" tests/config/test_precedence.py tests/config/test_errors.py tests/config/test_schema.py \
  tests/data/test_geometry.py tests/hooks/test_discovery.py tests/test_files.py tests/test_plugin.py tests/cli/test_app.py \
  tests/report/test_html.py
