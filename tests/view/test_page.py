"""The page in a real browser: sort, filter, click, zoom, two runs side by side, a run in progress, keys, themes."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.view.conftest import errors, serving, table

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of playwright's own pipes


def mean(values):
    return sum(values) / len(values)


def order(page):
    return page.locator("#list li").evaluate_all("items => items.map(item => item.dataset.film)")


def box(page, stage=0):
    return [float(v) for v in page.locator(".stage svg[viewBox]").nth(stage).get_attribute("viewBox").split()]


def opened(page, url, *, beside=False):
    page.goto(url)
    page.locator("#points tbody tr").first.wait_for()
    if not beside:
        page.select_option("#run-b", "")
    page.select_option("#split", "train")
    page.locator("#list li").nth(11).wait_for()


def by_mean(good):
    return sorted(errors(good).items(), key=lambda film: -mean(film[1].values()))


def test_the_worst_film_s_worst_landmark_is_one_click_away_and_its_map_is_laid(page, site, good):
    film, found = by_mean(good)[0]
    worst = max(found, key=found.get)
    opened(page, site)
    assert order(page)[0] == film
    whole = box(page)
    page.locator("#list li .worst").first.click()
    chosen = page.locator("#points tr[aria-selected=true]")
    assert chosen.get_attribute("data-symbol") == worst
    assert page.locator("#status").text_content() == f"{worst}: {found[worst]:.2f} mm"
    assert box(page)[2] < whole[2] / 1.5
    assert page.locator(".landmark.chosen").get_attribute("data-symbol") == worst
    image = page.locator(".glow image")
    image.wait_for(state="attached", timeout=30_000)
    assert image.get_attribute("href").startswith("data:image/png;base64,")
    assert "map peak 0." in page.locator(".note").text_content()


def test_the_list_is_sorted_filtered_and_searched(page, site, good):
    opened(page, site)
    assert order(page) == [film for film, _ in by_mean(good)]
    page.select_option("#sort", "worst")
    by_worst = sorted(errors(good).items(), key=lambda film: -max(film[1].values()))
    assert order(page) == [film for film, _ in by_worst]
    page.click("#reverse")
    assert order(page) == [film for film, _ in reversed(by_worst)]
    page.click("#reverse")
    page.select_option("#landmark", "Go")
    page.select_option("#sort", "mean")
    of_go = sorted(errors(good).items(), key=lambda film: -film[1]["Go"])
    assert order(page) == [film for film, _ in of_go]
    film, found = of_go[0]
    assert page.locator("#list li .worst").first.text_content() == f"Go {found['Go']:.2f} mm"
    seen = page.locator(".landmark").evaluate_all(
        "m => m.filter(x => x.style.display !== 'none').map(x => x.dataset.symbol)"
    )
    assert seen == ["Go"]
    assert page.locator("#points tr[aria-selected=true]").get_attribute("data-symbol") == "Go"
    assert "Go; MRE" in page.locator("#summary").text_content()
    page.fill("#search", film)
    assert order(page) == [film]


def test_a_film_opens_at_its_points_and_circles_are_true_as_everywhere(page, site):
    opened(page, site)
    left, top, width, height = box(page)
    places = page.locator(".landmark .fixed").evaluate_all("all => all.map(g => [+g.dataset.x, +g.dataset.y])")
    assert all(left <= x <= left + width and top <= y <= top + height for x, y in places)
    assert page.locator(".landmark [data-layer=truth] .mark circle").count() > 0
    assert page.locator(".landmark [data-layer=found] circle").count() == 0
    page.click("#fit")
    assert box(page)[2] * box(page)[3] > width * height
    page.keyboard.press("Escape")
    assert box(page) == [left, top, width, height]


def test_marks_lie_where_the_points_are_and_keep_their_size_when_zoomed(page, site):
    opened(page, site)
    page.click("#fit")
    image, mark = page.locator(".stage image").first, page.locator(".landmark[data-symbol=S] [data-layer=found]")
    dot = mark.locator(".mark path")

    def place():
        """The dot's place in film px, by the picture's edges on the screen; and its size on the screen."""
        film, on_screen = image.bounding_box(), dot.bounding_box()
        width = float(image.get_attribute("width"))
        return (
            [
                (on_screen[c] + on_screen[s] / 2 - film[c]) * width / film["width"] - 0.5
                for c, s in (("x", "width"), ("y", "height"))
            ],
            on_screen["width"],
        )

    there = [float(mark.get_attribute(f"data-{c}")) for c in "xy"]
    where, size = place()
    assert where == pytest.approx(there, abs=0.6)
    whole = box(page)
    page.locator(".stage svg[viewBox]").hover()
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(50)
    assert box(page)[2] < 0.8 * whole[2]
    where, zoomed = place()
    assert where == pytest.approx(there, abs=0.6)
    assert zoomed == pytest.approx(size, rel=0.1)
    before = box(page)
    page.mouse.down()
    page.mouse.move(500, 300, steps=3)
    page.mouse.up()
    assert box(page)[:2] != before[:2]
    assert box(page)[2:] == before[2:]
    page.click("#fit")
    assert box(page) == whole


def test_a_point_that_a_station_moved_shows_its_track(page, good, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(good, folder)
    (film, *_), *_ = by_mean(good)
    row = next(r for r in table(folder / "predictions-train.csv") if (r["image_id"], r["symbol"]) == (film, "S"))
    x, y = float(row["x_px"]), float(row["y_px"])
    stages = [("decoder", x - 60, y - 25), ("constraint", x - 10, y + 8), ("refiner", x, y)]
    lines = [f"{film},S,{stage},{a:.3f},{b:.3f},0.5" for stage, a, b in stages]
    (folder / "stages-train.csv").write_text("\n".join(["image_id,symbol,stage,x_px,y_px,score", *lines]) + "\n")
    with serving(folder) as url:
        opened(page, url, beside=True)
        track = page.locator(".landmark[data-symbol=S] polyline.track")
        assert track.get_attribute("points").split() == [f"{round(a, 3):g},{round(b, 3):g}" for _, a, b in stages]
        assert page.locator("polyline.track").count() == 1
        marks = page.locator(".landmark[data-symbol=S] .fixed[data-layer=track]")
        assert marks.locator("title").all_text_contents() == ["S: decoder", "S: constraint"]
        page.locator("#points tr[data-symbol=S]").click()
        said = page.locator("#status").text_content()
        assert ", constraint moved it " in said
        assert ", refiner moved it " in said
        seen = box(page)
        assert seen[0] <= x - 60 <= x <= seen[0] + seen[2]
        page.keyboard.press("6")
        assert not track.is_visible()


def test_two_runs_stand_side_by_side_and_move_together(page, site, good, second):
    opened(page, site, beside=True)
    assert page.locator(".stage").count() == 2
    film, found = by_mean(good)[0]
    other = errors(second)[film]
    page.locator("#points tr[data-symbol=S]").click()
    cells = page.locator("#points tr[data-symbol=S] td").all_text_contents()
    change = other["S"] - found["S"]
    assert [cell.rstrip(" !") for cell in cells[1:4]] == [f"{found['S']:.2f}", f"{other['S']:.2f}", f"{change:+.2f}"]
    assert box(page, 0) == box(page, 1)
    page.locator(".stage svg[viewBox]").nth(1).hover()
    page.mouse.wheel(0, 300)
    page.wait_for_timeout(50)
    assert box(page, 0) == box(page, 1)
    dots = page.locator(".landmark[data-symbol=S] [data-layer=found]")
    first, moved = (float(dots.nth(n).get_attribute("data-x")) for n in (0, 1))
    truth = float(page.locator(".landmark[data-symbol=S] [data-layer=truth]").first.get_attribute("data-x"))
    assert moved - truth == pytest.approx(5, abs=0.01)
    assert first != moved
    page.select_option("#sort", "change")
    changes = {name: mean(errors(second)[name].values()) - mean(of.values()) for name, of in errors(good).items()}
    assert order(page) == sorted(changes, key=lambda name: -abs(changes[name]))


def test_choices_made_faster_than_the_films_come_end_in_the_last_one(page, site, good):
    opened(page, site, beside=True)
    page.select_option("#run-b", "")
    page.select_option("#landmark", "Go")
    page.select_option("#split", "test")
    page.select_option("#split", "train")
    page.locator(".stage").nth(1).wait_for(state="detached")
    page.locator("#list li").nth(11).wait_for()
    of_go = sorted(errors(good).items(), key=lambda film: -film[1]["Go"])
    assert order(page) == [film for film, _ in of_go]


def test_readers_and_truth_have_shapes_of_their_own_and_can_be_hidden(page, site):
    opened(page, site)

    def shown(layer):
        return page.locator(f".landmark [data-layer={layer}]").first.is_visible()

    assert (shown("found"), shown("truth"), shown("readers"), shown("names")) == (True, True, False, True)
    page.check("#layer-readers")
    page.uncheck("#layer-truth")
    assert (shown("truth"), shown("readers")) == (False, True)
    shapes = page.locator("#layer-boxes svg .mark").evaluate_all("m => m.map(x => x.innerHTML)")
    assert len(shapes) == 5
    assert len(set(shapes)) == 5


def test_everything_works_by_keyboard(page, site, good):
    opened(page, site)
    _, found = by_mean(good)[0]
    page.locator("body").press("w")
    assert page.locator("#points tr[aria-selected=true]").get_attribute("data-symbol") == max(found, key=found.get)
    page.keyboard.press("n")
    ranked = sorted(found, key=found.get, reverse=True)
    assert page.locator("#points tr[aria-selected=true]").get_attribute("data-symbol") == ranked[1]
    page.keyboard.press("j")
    assert page.locator("#list li[aria-current=true]").get_attribute("data-film") == by_mean(good)[1][0]
    page.keyboard.press("0")
    whole = box(page)
    page.keyboard.press("+")
    assert box(page)[2] < whole[2]
    near = box(page)
    page.keyboard.press("Shift+ArrowRight")
    assert box(page)[0] > near[0]
    page.keyboard.press("0")
    assert box(page) == whole
    page.keyboard.press("3")
    assert page.locator("#layer-readers").is_checked()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    assert page.locator("#charts figure").count() == 4
    page.keyboard.press("c")
    page.keyboard.press("/")
    page.keyboard.type("nothing like it")
    assert order(page) == []


def test_the_curves_of_a_run_in_progress_grow_and_its_films_come_when_they_are_scored(page, run, tmp_path):
    now = tmp_path / "now"
    shutil.copytree(run, now)
    for path in [*now.glob("predictions-*.csv"), now / "metrics.json"]:
        path.unlink()
    records = (now / "metrics.jsonl").read_text().splitlines()
    (now / "metrics.jsonl").write_text(records[0] + "\n")
    page.clock.install()
    with serving(now) as url:
        page.goto(url)
        curve = page.locator("[data-chart=mre_mm] .curve")
        curve.wait_for(state="attached")
        assert curve.get_attribute("data-points") == "1"
        assert "1 of 2" in page.locator("#progress").text_content()
        (now / "metrics.jsonl").write_text("\n".join(records) + "\n")
        page.clock.run_for(2100)
        page.locator("[data-chart=mre_mm] .curve[data-points='2']").wait_for(state="attached")
        best = min(json.loads(record)["validation"]["mre_mm"] for record in records)
        assert f"{best:.2f} mm, epoch" in page.locator("#progress").text_content()
        shutil.copy(run / "predictions-validation.csv", now)
        page.clock.run_for(2100)
        page.locator("#list li").first.wait_for(state="attached")
        page.click("#tab-films")
        assert set(order(page)) == set(errors(run, "validation"))


def test_films_that_have_moved_are_said_so_and_found_again_with_data(page, run, tiny_set, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace(str(tiny_set), str(tmp_path / "elsewhere")))
    with serving(moved) as url:
        page.goto(url)
        page.locator("#list li").first.wait_for()
        text = page.locator("#problem").text_content()
        assert f"The films of moved are not to be seen: '{tmp_path / 'elsewhere'}' cannot be opened" in text
        assert f"ceph view {moved} --data FOLDER" in text
        page.locator("#list li .worst").first.click()
        assert page.locator(".landmark.chosen").count() == 1
        assert page.locator(".stage image").count() == 0
    with serving(moved, data=tiny_set) as url:
        page.goto(url)
        page.locator(".stage image").wait_for()
        assert page.locator("#problem").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_has_no_sideways_scrolling_and_the_theme_is_the_reader_s(browser, site, scheme):
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    opened(page, site, beside=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    (red, *_) = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red > 200) == (scheme == "light")
    page.click("#tab-curves")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
