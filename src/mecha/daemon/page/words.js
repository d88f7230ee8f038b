// How figures are written.

export function sizeWords(bytes) {
  if (bytes === null || bytes === undefined) return "";
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

export function msWords(ms) {
  return ms === null || ms === undefined ? "-" : `${ms.toFixed(1)} ms`;
}

export function rateWords(value) {
  return value === null || value === undefined ? "-" : `${value.toFixed(1)} /s`;
}

export function progressWords({ stage, completed, total }) {
  if (!stage) return "";
  if (!total) return stage;
  const percent = Math.min(100, Math.floor((100 * completed) / total));
  // Only transfers count bytes; other stages count steps of their own.
  const amount = stage.startsWith("download") ? ` ${sizeWords(completed)} of ${sizeWords(total)},` : "";
  return `${stage}${amount} ${percent} %`;
}

// "2 cone, 1 ball", most frequent first.
export function foundWords(detections) {
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  return sorted.map(([label, count]) => `${count} ${label}`).join(", ") || "nothing found";
}
