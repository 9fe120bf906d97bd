/** The chart itself, drawn by uPlot in the page's colours. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Series } from "../model/rates";

const HEIGHT_PX = 120;

export interface Chart {
  show(series: Series): void;
  fit(): void;
  destroy(): void;
}

export interface Labels {
  readonly perSecond: string;
  readonly median: string;
  readonly worst: string;
}

export function drawChart(box: HTMLElement, labels: Labels, clock: (text: string) => string): Chart {
  const colour = (name: string): string => computedColour(box, name);
  const dim = colour("--dim");
  const grid = { stroke: colour("--line"), width: 1 };
  const axis = { stroke: dim, grid, ticks: { show: false }, font: "11px system-ui", gap: 4 };
  const line = { points: { show: true, size: 4 }, spanGaps: true };
  const plot = new uPlot({
    width: Math.max(80, box.clientWidth), height: HEIGHT_PX, legend: { show: false }, padding: [8, 4, 0, 4],
    cursor: { show: false },
    scales: {
      x: { time: true },
      rate: { range: (_, __, max) => [0, Math.max(5, max * 1.1)] },
      ms: { range: (_, __, max) => [0, Math.max(10, (max ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, size: 22, values: (_, at) => at.map((s) => clock(new Date(s * 1000).toISOString()).slice(0, 8)), space: 70 },
      { ...axis, scale: "rate", size: 44 },
      { ...axis, scale: "ms", side: 1, size: 44, grid: { show: false } },
    ],
    series: [
      {},
      {
        label: labels.perSecond, scale: "rate", fill: fade(colour("--busy")), width: 0, points: { show: false },
        ...(uPlot.paths.bars ? { paths: uPlot.paths.bars({ size: [0.8, 12] }) } : {}),
      },
      { ...line, label: labels.worst, scale: "ms", stroke: colour("--line-strong"), width: 1 },
      { ...line, label: labels.median, scale: "ms", stroke: colour("--accent"), width: 2 },
    ],
  }, [[], [], [], []], box);
  return {
    show: ({ at, count, maxMs, medianMs }) => plot.setData([at, count, maxMs, medianMs]),
    fit: () => plot.setSize({ width: Math.max(80, box.clientWidth), height: HEIGHT_PX }),
    destroy: () => plot.destroy(),
  };
}

/** A canvas knows no custom properties: ask what the colour comes to here. */
function computedColour(box: HTMLElement, name: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  box.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const fade = (rgb: string): string => rgb.replace(/^rgb\((.*)\)$/, "rgba($1, 0.45)");
