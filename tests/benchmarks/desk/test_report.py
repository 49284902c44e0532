"""The report as text, and as a browser without any network shows it."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest

from onnxpipe_bench.desk.figures import Scatter, alternative, make_figures
from onnxpipe_bench.desk.report import render_report
from onnxpipe_bench.desk.svg import Axis, draw, place_labels
from onnxpipe_bench.desk.terminal import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Outline(html.parser.HTMLParser):
    """Every element with its attributes, and the texts of figures' captions."""

    def __init__(self, page):
        super().__init__()
        self.elements = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_plots_are_of_quality_and_size_against_latency_and_of_latencies(result):
    figures = make_figures(result)
    assert [figure.key for figure in figures] == ["quality-latency", "size-latency", "latency-16", "latency-64"]
    quality, size, _, spread = figures
    assert [point.name for point in quality.points if point.best] == ["fp32", "int8"]
    assert [point.name for point in size.points if point.best] == ["int8", "int4"]
    assert [strip.name for strip in spread.strips if strip.slow] == ["fp16"]
    assert "Best towards the top left" in quality.caption
    assert "Slower than fp32: fp16." in quality.caption
    assert "Best towards the bottom left" in size.caption


def test_where_less_is_better_the_best_are_at_the_bottom(result):
    result["quality"]["lower"] = True
    (quality, *_) = make_figures(result)
    assert [point.name for point in quality.points if point.best] == ["int8", "int4"]


def test_without_quality_there_is_no_plot_of_it(result):
    result["quality"] = {"data": None}
    assert next(figure.key for figure in make_figures(result)) == "size-latency"


def test_every_plot_has_itself_in_words_and_as_a_table(result):
    page = render_report(result)
    outline = Outline(page)
    figures = make_figures(result)
    plots = outline.find("svg")
    assert len(plots) == len(figures) == len(outline.find("figcaption")) == len(outline.find("figure"))
    for plot, figure in zip(plots, figures, strict=True):
        assert plot["role"] == "img"
        assert plot["aria-label"] == alternative(figure)
        for name in ("fp32", "int8", "fp16", "int4"):
            assert name in plot["aria-label"]
    assert page.count("The same as a table") == len(figures)


def test_the_page_asks_for_nothing_and_runs_nothing(result):
    page = render_report(result)
    outline = Outline(page)
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", page)
    assert {tag for tag, _ in outline.elements}.isdisjoint({"script", "link", "img", "iframe", "object", "embed"})
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    (policy,) = [meta for meta in outline.find("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none'")
    assert outline.find("html") == [{"lang": "en"}]


def test_names_cannot_write_into_the_page(result):
    for row in result["rows"]:
        row["model"] = '<script>alert("1")</script>'
    result["rows"][1]["name"] = "\"><img src=x onerror='x'>"
    outline = Outline(render_report(result))
    assert not outline.find("script") + outline.find("img")


def test_slower_than_fp32_is_told_in_red_and_in_words(result):
    page = render_report(result)
    assert "SLOWER than fp32 here: fp16." in page
    assert len(re.findall(r'<tr class=slow><th scope="row">fp16', page)) == 4
    assert '<tr class=slow><th scope="row">int8' not in page
    plain = render(result, color=False)
    assert [line.split()[0] for line in plain.splitlines() if line.endswith("<- slower than fp32")] == ["fp16"] * 4
    colored = render(result, color=True)
    assert colored.count("\x1b[31mfp16") == 4
    assert "\x1b[31mint8" not in colored


def test_a_terminal_gets_every_figure(result):
    text = render(result, color=False)
    assert "Spearman on 1500 rows of sts.jsonl" in text
    assert "2.50x (2.4" in text
    assert "0.8180 (0.8080 to 0.8280)" in text
    assert "Energy: not told by this machine (no RAPL counters and no NVML)." in text
    assert "Rows run alone, for their answers would depend on the batch: int8." in text


def test_slower_at_times_is_not_slower(result):
    for figures in result["rows"][2]["latency"]:
        figures["speed"] = {"value": 0.99, "low": 0.95, "high": 1.02}
    assert "SLOWER" not in render_report(result)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 10], ["0", "2", "4", "6", "8", "10"]),
        ([0.81, 0.82], ["0.810", "0.812", "0.814", "0.816", "0.818", "0.820"]),
    ],
)
def test_ticks_are_at_round_numbers(values, ticks):
    axis = Axis(values, 0, 100)
    assert [axis.text(tick) for tick in axis.ticks] == ticks
    assert 0 <= axis.place(values[0]) < axis.place(values[1]) <= 100


def test_an_axis_of_one_value_has_room_around_it():
    axis = Axis([5.0, 5.0], 0, 100)
    assert axis.place(5.0) == 50


def test_labels_keep_clear_of_each_other():
    points = [(100.0, 100.0, "first"), (104.0, 101.0, "second"), (98.0, 99.0, "third")]
    places = place_labels(points, (0, 0, 400, 300))
    boxes = [
        (left, top - 11, left + 6.4 * len(name), top + 3)
        for (left, top), (_, _, name) in zip(places, points, strict=True)
    ]
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_plot_of_one_candidate_can_be_drawn(result):
    result["rows"] = result["rows"][:1]
    assert all(draw(figure).startswith("<svg") for figure in make_figures(result))


def test_pictures_are_written_for_every_plot(result, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the bench extra")
    from onnxpipe_bench.desk.png import draw_all

    files = draw_all(result, tmp_path / "plots")
    assert [file.stem for file in files] == [figure.key for figure in make_figures(result)]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert isinstance(make_figures(result)[0], Scatter)


# what a page of its own sees of the report inside of a frame: nothing runs in the report itself
_LOOK = """<!doctype html><body><iframe id="frame" width="WIDTH" height="900" srcdoc="PAGE"></iframe><script>
document.getElementById("frame").onload = event => {
  const page = event.target.contentDocument, view = event.target.contentWindow;
  const slow = page.querySelector("tr.slow td"), fast = page.querySelector("tbody tr:not(.slow) td");
  document.body.textContent = "SEEN" + JSON.stringify({
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    plots: [...page.querySelectorAll("svg")].map(plot => plot.getBoundingClientRect().height),
    letters: Math.min(...[...page.querySelectorAll("svg text")].map(text => text.getBoundingClientRect().height)),
    outside: [...page.querySelectorAll("svg")].flatMap(plot => [...plot.querySelectorAll("text")].filter(text => {
      const [inner, outer] = [text.getBoundingClientRect(), plot.getBoundingClientRect()];
      return inner.left < outer.left - 1 || inner.right > outer.right + 1;
    }).map(text => text.textContent)),
    slow: view.getComputedStyle(slow).color, fast: view.getComputedStyle(fast).color,
    paper: view.getComputedStyle(page.body).backgroundColor,
    requests: view.performance.getEntriesByType("resource").length,
  }) + "DONE";
};
</script></body>"""


def look(page, folder, *options, width):
    """What a browser without a network makes of a page."""
    harness = folder / "look.html"
    escaped = page.replace("&", "&amp;").replace('"', "&quot;")
    harness.write_text(_LOOK.replace("WIDTH", str(width)).replace("PAGE", escaped), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", *options, "--dump-dom"]
    done = subprocess.run([*command, harness.as_uri()], capture_output=True, text=True, timeout=120)
    seen = re.search(r"SEEN(.*)DONE</body>", done.stdout)
    assert seen, done.stderr[-2000:]
    return json.loads(html.unescape(seen[1]))


def red(color):
    """Whether a color is rather red."""
    channels = [int(part) for part in re.findall(r"\d+", color)[:3]]
    return channels[0] > 1.5 * max(channels[1:]) or channels[0] - max(channels[1:]) > 80


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(400, False), (1200, True)])
def test_a_browser_without_a_network_shows_all_of_it(result, tmp_path, width, dark):
    options = ["--blink-settings=preferredColorScheme=0"] if dark else []
    seen = look(render_report(result), tmp_path, *options, width=width)
    assert seen["overflow"] <= 0
    assert len(seen["plots"]) == len(make_figures(result))
    assert min(seen["plots"]) > 100
    assert seen["letters"] > 9
    assert seen["outside"] == []
    assert red(seen["slow"])
    assert not red(seen["fast"])
    assert seen["requests"] == 0
    assert (int(re.findall(r"\d+", seen["paper"])[0]) < 80) == dark
