r"""Measures INT8 made by mecha beside INT8 made by its peers, file by file.

    python -m venv .peers && .peers/bin/pip install -e '.[bench]'
    .peers/bin/python benchmarks/quantization MODELS_DIR --calibration PHOTOS --instances instances.json --images DIR \
        --video traffic.mp4 --write docs/quantization.md

MODELS_DIR holds yolov8n.onnx, yolo11n.onnx, yolov5n.onnx and yolox_nano.onnx. Every build is a process of its own, so
that its time and peak memory are its alone; then one process a model measures all its files, their latencies in turns.
A method that cannot be had is left out and named. `--seeds 10` builds on the built-in scenes of ten seeds instead, and
says what the worst of them costs. With `--work` builds are kept there, and made once only.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.quantization.builders import BUILDERS, Work, build

# The tables of the methods and of the seeds stand between markers of their own.
METHODS_TABLE, SEEDS_TABLE = "quantization", "quantization seeds"
FP32 = "FP32"
MODELS = ("yolov8n", "yolo11n", "yolov5n", "yolox_nano")
PACKAGES = ("mecha", "onnxruntime", "openvino", "nncf", "numpy", "opencv-python-headless")
# As in the process in which a pull makes INT8: threads of numpy's own only take turns with onnxruntime's.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Figures = dict[str, Any]


def main() -> int:
    """Measure, print, and write the table where asked."""
    options = _options()
    if options.job:
        _answer(json.loads(options.job))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        table = "\n".join(_seeds(options, work) if options.seeds else _methods(options, work))
    print(table)
    if options.write:
        where = SEEDS_TABLE if options.seeds else METHODS_TABLE
        page = options.write.read_text(encoding="utf-8")
        start, end = (page.index(f"<!-- {where}: {word} -->") for word in ("begin", "end"))
        start = page.index("\n", start)
        options.write.write_text(f"{page[:start]}\n{table}\n{page[end:]}", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models_dir", type=Path, metavar="MODELS_DIR")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="photos to calibrate on")
    parser.add_argument("--samples", type=int, default=64, help="how many of them, 64 by default")
    parser.add_argument("--instances", type=Path, required=True, metavar="FILE", help="COCO annotations")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="the photos they name")
    parser.add_argument("--limit", type=int, help="only the first so many annotated photos")
    parser.add_argument("--video", type=Path, help="every 5th frame is compared with FP32's detections")
    parser.add_argument("--models", type=_models, default=MODELS, metavar="A,B")
    parser.add_argument("--methods", nargs="+", choices=BUILDERS, default=list(BUILDERS), metavar="METHOD")
    parser.add_argument("--rounds", type=int, default=40, help="of the latency")
    parser.add_argument("--threads", type=int, default=1, help="of every session that is measured")
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="build on scenes of so many seeds instead")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep builds there, and do not repeat them")
    parser.add_argument("--write", type=Path, help="page to write the table into, between its markers")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.calibration is None and not options.seeds:
        parser.error("--calibration: got nothing; expected a folder of photos, or --seeds")
    return options


def _models(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    unknown = [name for name in found if name not in MODELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"got {unknown[0]!r}; expected some of {','.join(MODELS)}")
    return found


def _answer(job: dict[str, Any]) -> None:
    """Be one process: do one job and answer on standard output."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries print; the answer must stay alone
    if job["do"] == "build":
        work = Work(Path(job["model"]), Path(job["folder"]), Path(job["photos"]), job["samples"], job["seed"])
        answer: Any = build(job["method"], work)
    else:
        from benchmarks.quantization.figures import Question, figures

        answer = figures(
            Question(
                model=Path(job["model"]),
                files={name: Path(file) for name, file in job["files"].items()},
                instances=Path(job["instances"]),
                images=Path(job["images"]),
                limit=job["limit"],
                video=Path(job["video"]) if job["video"] else None,
                rounds=job["rounds"],
                threads=job["threads"],
            )
        )
    answers.write(json.dumps(answer) + "\n")


def _asked(job: dict[str, Any], work: Path, environment: dict[str, str]) -> tuple[Any, str]:
    """Have a job done by a process of its own; return its answer, or None and why there is none."""
    done = subprocess.run(
        [sys.executable, *sys.argv, "--job", json.dumps(job, default=str)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "MECHA_CACHE_DIR": str(work / "cache")},
    )
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return json.loads(done.stdout.splitlines()[-1]), ""


def _built(options: argparse.Namespace, work: Path, model: str, method: str, seed: int) -> tuple[Figures | None, str]:
    folder = work / f"{model} {method} {seed} {options.samples}"
    record = folder / "built.json"
    if record.is_file():
        kept: Figures = json.loads(record.read_bytes())
        return kept, ""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{model}: {method}, seed {seed}", file=sys.stderr, flush=True)
    job = {
        "do": "build",
        "method": method,
        "model": (options.models_dir / f"{model}.onnx").absolute(),
        "folder": folder.absolute(),
        "photos": options.calibration.absolute() if options.calibration else "",
        "samples": options.samples,
        "seed": seed,
    }
    built, fault = _asked(job, work, _ONE_THREAD if method.startswith("mecha") else {})
    if built is not None:
        record.write_text(json.dumps(built), encoding="utf-8")
    return built, fault


def _measured(
    options: argparse.Namespace, work: Path, model: str, files: dict[str, str], *, rounds: int
) -> dict[str, Figures]:
    print(f"{model}: measuring {', '.join(files)}", file=sys.stderr, flush=True)
    job = {
        "do": "measure",
        "model": (options.models_dir / f"{model}.onnx").absolute(),
        "files": files,
        "instances": options.instances.absolute(),
        "images": options.images.absolute(),
        "limit": options.limit,
        "video": options.video.absolute() if options.video else None,
        "rounds": rounds,
        "threads": options.threads,
    }
    answer, fault = _asked(job, work, {})
    if answer is None:
        raise SystemExit(f"{model}: {fault}")
    found: dict[str, Figures] = answer
    return found


def _methods(options: argparse.Namespace, work: Path) -> list[str]:
    """Return the table of all methods."""
    lines = [
        *_setting(options),
        f"{options.samples} photos; latency: medians of {options.rounds} rounds in turns, {_threads(options)}.",
        "",
        "| model | INT8 by | mAP50-95 | drop | ms | against FP32 | size | build s | peak MB | F1 at 0.25 | F1 at 0.5 |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    left_out: dict[str, str] = {}
    for model in options.models:
        built: dict[str, Figures] = {}
        for method in options.methods:
            one, fault = _built(options, work, model, method, 0)
            if one is None:
                left_out[f"{model}, {method}" if "No module" not in fault else method] = fault
            else:
                built[method] = one
        files = {method: one["file"] for method, one in built.items()}
        found = _measured(options, work, model, files, rounds=options.rounds)
        fp32 = found[FP32]
        size = (options.models_dir / f"{model}.onnx").stat().st_size
        lines.append(f"| {model} | FP32 | {fp32['map']:.4f} | | {fp32['ms']:.1f} | 1.00x | 1.00 | | | | |")
        for method, one in built.items():
            got = found[method]
            lines.append(
                f"| | {method} | {got['map']:.4f} | {_drop(fp32, got):.1%} | {got['ms']:.1f} "
                f"| {fp32['ms'] / got['ms']:.2f}x | {one['size_bytes'] / size:.2f} | {one['seconds']:.0f} "
                f"| {one['peak_mb']:.0f} | {_f1(got, '0.25')} | {_f1(got, '0.5')} |"
            )
    return [*lines, *(f"\nNot measured: {what}: {why}" for what, why in left_out.items())]


def _seeds(options: argparse.Namespace, work: Path) -> list[str]:
    """Return the table of builds on the built-in scenes of several seeds."""
    lines = [
        *_setting(options),
        f"mecha on 32 built-in scenes, {options.seeds} seeds.",
        "",
        "| model | FP32 | worst drop | median drop | best drop | least F1 at 0.25 | least F1 at 0.5 | drop by seed |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for model in options.models:
        files = {}
        for seed in range(options.seeds):
            one, fault = _built(options, work, model, "mecha, scenes", seed)
            if one is None:
                raise SystemExit(f"{model}: seed {seed}: {fault}")
            files[f"mecha, seed {seed}"] = one["file"]
        found = _measured(options, work, model, files, rounds=0)
        fp32 = found.pop(FP32)
        drops = [_drop(fp32, got) for got in found.values()]
        least = [min((_f1(got, score) for got in found.values()), default="-") for score in ("0.25", "0.5")]
        lines.append(
            f"| {model} | {fp32['map']:.4f} | {max(drops):.1%} | {median(drops):.1%} | {min(drops):.1%} "
            f"| {least[0]} | {least[1]} | {', '.join(f'{drop:.1%}' for drop in drops)} |"
        )
    return lines


def _drop(fp32: Figures, int8: Figures) -> float:
    return float((fp32["map"] - int8["map"]) / fp32["map"]) + 0.0


def _f1(figures: Figures, score: str) -> str:
    return f"{figures['f1'][score]:.3f}" if "f1" in figures else "-"


def _threads(options: argparse.Namespace) -> str:
    return f"{options.threads} thread{'s' if options.threads > 1 else ''}"


def _setting(options: argparse.Namespace) -> list[str]:
    photos = len(json.loads(options.instances.read_bytes())["images"][: options.limit])
    video = f"; F1 on every 5th frame of {options.video.name}" if options.video else ""
    return [f"mAP50-95 on {photos} annotated photos{video}. {_machine()}. {', '.join(_versions())}."]


def _machine() -> str:
    from mecha.graph.cpu import cpu_features

    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({cpu_features().key()}), {len(names)} cores"


def _versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
