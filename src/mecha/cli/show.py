"""How one model and one measurement read on a terminal."""

from collections.abc import Iterator
from typing import Any

from mecha.cli.context import bytes_text, count_text

_INT8_ONLY = "model.onnx is INT8 already; there is no FP32 to compare with"


def show_lines(shown: dict[str, Any]) -> Iterator[str]:
    """Return the lines of `models show`, from what ModelService.show answers."""
    entry, config, manifest = shown["catalog"], shown["config"], shown["manifest"]
    yield f"{shown['name']}" + (f": {entry['description']}" if entry and entry.get("description") else "")
    yield f"  licence    {shown['licence']}"
    yield f"  catalog    {shown['source']}"
    if entry:
        yield "  origin     " + (entry.get("path") or f"{entry['repo']}/{entry['filename']}")
    yield f"  state      {_state_text(shown)}"
    if not manifest:
        return
    if manifest["origin"]["revision"]:
        yield f"  revision   {manifest['origin']['revision']}"
    yield f"  path       {shown['path']}"
    size = config["input"]
    shape = "dynamic, run at" if size["dynamic"] else "fixed at"
    yield f"  model      {config['task']}, family {config['family'] or 'none'}, {len(config['classes'])} classes"
    yield f"  input      {shape} {size['width']}x{size['height']}, preprocessing {config['preprocessing']}"
    for name, record in sorted(manifest["files"].items()):
        yield f"  file       {name}  {bytes_text(record['size_bytes'])}  sha256 {record['sha256'][:16]}"
    yield from _int8_lines(manifest["int8"])
    if manifest["tuned"]:
        yield from _tuned_lines(manifest["tuned"], here=shown["tuned_here"])


def _state_text(shown: dict[str, Any]) -> str:
    if shown["state"] == "available":
        return f"not pulled; `mecha models pull {shown['name']}`"
    return f"{shown['state']}: {shown['fault']}" if shown["fault"] else str(shown["state"])


def _int8_lines(int8: dict[str, Any]) -> Iterator[str]:
    yield f"  INT8       {int8['state']}" + (f": {int8['message']}" if int8["message"] else "")
    if int8["calibration"]:
        kind = " (provisional)" if int8["calibration"]["provisional"] else ""
        yield f"  calibrated {int8['calibration']['description']}, {int8['calibration']['frames']} frames{kind}"
    if int8["accuracy"]:
        yield f"  mAP50-95   {_accuracy_text(int8['accuracy'])}"
    gate = int8["gate"]
    if gate:
        yield f"  verdict    {gate['verdict']}: {gate['reason']}"
        if gate["latency"]:
            times = gate["latency"]
            yield (
                f"  latency    FP32 {times['fp32_ms']:.1f} ms, INT8 {times['int8_ms']:.1f} ms, "
                f"model.onnx run whole {times['fp32_exported_ms']:.1f} ms "
                f"({times['threads']} thread{'s' if times['threads'] > 1 else ''}, the middle round)"
            )
        if gate["memory"]:
            memory = gate["memory"]
            yield f"  memory     FP32 {memory['fp32_mb']:.0f} MB, INT8 {memory['int8_mb']:.0f} MB, each on its own"
    for tried in int8["tried"]:
        speed = f", {tried['speedup']:.2f}x" if tried["speedup"] else ""
        agreement = f", agreement {tried['agreement']:.3f}" if tried["agreement"] is not None else ""
        yield f"  tried      {tried['method']}: {tried['verdict']}{speed}{agreement}"


def _accuracy_text(found: dict[str, Any]) -> str:
    of = f" of {found['data']}" if found["data"] else ""
    half = ""
    if found["fp32_map50"] is not None and found["int8_map50"] is not None:
        half = f" (mAP50 {found['fp32_map50']:.4f}, {found['int8_map50']:.4f})"
    photos = count_text(found["images"], "photo")
    return f"FP32 {found['fp32_map']:.4f}, INT8 {found['int8_map']:.4f}{half} on {photos}{of}"


def _tuned_lines(tuned: dict[str, Any], *, here: bool) -> Iterator[str]:
    for precision, session in sorted(tuned["sessions"].items()):
        took = f", {session['ms']:.1f} ms" if session["ms"] is not None else ""
        yield f"  tuned      {precision}: {session_text(session)}{took}"
    if not here:
        yield f"             on {tuned['device']} with onnxruntime {tuned['onnxruntime']}; not used here"


def session_text(session: dict[str, Any]) -> str:
    """Return how a session was tuned: `2 threads, CPU`."""
    threads = f"{session['threads']} thread{'s' if session['threads'] > 1 else ''}"
    padding = ", frames padded to the square" if session["square"] else ""
    return f"{threads}, {session['provider'].removesuffix('ExecutionProvider')}{padding}"


def bench_lines(result: dict[str, Any]) -> Iterator[str]:
    """Return the lines of `models bench`, from the document that `--json` writes."""
    height, width = result["frame_size"]
    threads = result["threads"]
    yield f"{result['name']} at {width}x{height}, {threads} thread{'s' if threads > 1 else ''}"
    yield f"  {'':<22}{'session p50':>12}{'p95':>9}{'end to end p50':>16}{'p95':>9}{'size':>10}"
    for label, key in (("FP32", "fp32"), ("INT8", "int8")):
        part = result[key]
        if part is None:
            continue
        session, whole = part["session_ms"], part["end_to_end_ms"]
        yield (
            f"  {label:<22}{session['p50']:>9.2f} ms{session['p95']:>9.2f}{whole['p50']:>13.2f} ms{whole['p95']:>9.2f}"
            f"{bytes_text(part['size_bytes']):>10}"
        )
    model = result["fp32"] or result["int8"]
    yield f"  {'model.onnx run whole':<22}{model['exported_session_ms']['p50']:>9.2f} ms"
    if result["speedup"]:
        speedup = result["speedup"]
        yield (
            f"  INT8 is {speedup['session']:.2f}x FP32 in the session, {speedup['end_to_end']:.2f}x end to end; "
            f"verdict {result['verdict']}"
        )
    else:
        yield f"  {_INT8_ONLY if result['int8'] else 'there is no INT8 build to measure'}"


def eval_lines(result: dict[str, Any]) -> Iterator[str]:
    """Return the lines of `models eval`, from the document that `--json` writes."""
    yield f"{result['name']} on {result['images']} image{'s' if result['images'] > 1 else ''}"
    yield f"  {'':<6}{'mAP50-95':>10}{'mAP50':>9}"
    for label, key in (("FP32", "fp32"), ("INT8", "int8")):
        if result[key] is not None:
            yield f"  {label:<6}{result[key]['map']:>10.4f}{result[key]['map50']:>9.4f}"
    if result["int8"] is None:
        yield f"  there is no INT8 build to measure; `mecha models quantize {result['name']}` makes one"
    elif result["fp32"] is None:
        yield f"  {_INT8_ONLY}"
    elif result["relative_drop"] is not None:
        drop = result["relative_drop"]
        yield f"  INT8 {'loses' if drop >= 0 else 'gains'} {abs(drop):.1%} of FP32's mAP50-95"
