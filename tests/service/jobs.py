"""What a build of the model of blobs is asked to do."""

from pathlib import Path

from tests.detect.blob_detector import blob_spec

from mecha.catalog.schema import QuantizeConfig
from mecha.service.job import BuildJob, Candidate


def blob_job(folder: Path, *, candidate: Candidate | None = None) -> BuildJob:
    return BuildJob(
        fp32=folder / "model.onnx",
        out_dir=folder,
        spec=blob_spec(),
        quantize=QuantizeConfig(),
        key="k",
        samples=4,
        threads=1,
        candidate=candidate,
    )
