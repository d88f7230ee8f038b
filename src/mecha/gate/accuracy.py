"""How precise a published model is on annotated photos, in both precisions."""

from pathlib import Path
from typing import Any

from mecha.detect.detector import Detector, Precision
from mecha.errors import NotFoundError
from mecha.gate.coco import EVAL_IOU_THRESHOLD, EVAL_MAX_DETECTIONS, EVAL_SCORE_THRESHOLD, evaluate_images
from mecha.gate.tally import CocoResult
from mecha.progress import Progress, silent
from mecha.store.published import PublishedModel


def accuracy(
    model: PublishedModel,
    instances: Path,
    images: Path,
    *,
    limit: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure mAP of a published model, one precision after the other, as published figures are measured.

    Args:
        instances: annotations as COCO writes them.
        images: the folder of the photos they name.
        limit: only the first so many photos.
        threads: of the session.

    Returns:
        The shape of `models eval --json`; `int8` and `relative_drop` are None while there is no INT8 build, `fp32` and
        `relative_drop` where the model was published in INT8 only, and `relative_drop` where FP32 finds nothing at all.

    Raises:
        NotFoundError: a file or the folder is missing.
        ConfigError: the annotations cannot be used with this model.
        IntegrityError: a photo cannot be decoded.
    """
    if not images.is_dir():
        raise NotFoundError(f"{images}: no such folder; expected the photos that {instances} names")
    counted = 0

    def measured(file: Path, precision: Precision) -> CocoResult:
        detector = Detector.from_file(
            file,
            model.spec,
            precision=precision,
            score_threshold=EVAL_SCORE_THRESHOLD,
            iou_threshold=EVAL_IOU_THRESHOLD,
            max_detections=EVAL_MAX_DETECTIONS,
            threads=threads,
            every_class=True,
        )

        def on_image(done: int, total: int) -> None:
            nonlocal counted
            counted = total
            progress(f"evaluate {precision}", done, total)

        return evaluate_images(detector, instances, images, classes=model.spec.classes, most=limit, on_image=on_image)

    results = {precision: measured(file, precision) for precision, file in model.by_precision.items()}
    fp32, int8 = results.get("FP32"), results.get("INT8")
    return {
        "schema": 1,
        "name": model.name,
        "images": counted,
        "fp32": _figures(fp32) if fp32 else None,
        "int8": _figures(int8) if int8 else None,
        "relative_drop": round((fp32.map - int8.map) / fp32.map, 4) if fp32 and int8 and fp32.map else None,
    }


def _figures(result: CocoResult) -> dict[str, float]:
    return {"map": round(result.map, 4), "map50": round(result.map50, 4)}
