// A line of packets a second over time, on a canvas; arrow keys and the pointer read single points.

import { clock, colour, number, prepare } from "./dom.js";

const LEFT = 46;
const BOTTOM = 22;
const TOP = 10;

export class Chart {
  constructor(canvas, text) {
    this.canvas = canvas;
    this.text = text;
    this.points = [];
    this.seconds = 1;
    this.span = 3600;
    this.cursor = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointermove", (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      this.look((event.clientX - left - LEFT) / (width - LEFT));
    });
    canvas.addEventListener("pointerleave", () => this.look(null));
    canvas.addEventListener("blur", () => this.look(null));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.01, ArrowRight: 0.01, Home: -2, End: 2 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.look(Math.min(1, Math.max(0, (this.cursor ?? 1) + step)));
    });
  }

  // `points`: [start, packets] of windows that are `seconds` long, oldest first; the chart ends now.
  show(points, seconds, span) {
    [this.points, this.seconds, this.span] = [points, seconds, span];
    this.draw();
  }

  push(start, packets) {
    const last = this.points.at(-1);
    if (last && last[0] === start) last[1] += packets;
    else this.points.push([start, packets]);
    while (this.points.length && this.points[0][0] < start - this.span) this.points.shift();
    this.draw();
  }

  look(place) {
    this.cursor = place !== null && place >= 0 && place <= 1 ? place : null;
    this.draw();
  }

  // The mean of each column of pixels: a spike stays visible as its share, and a gap is a gap.
  columns(width) {
    const end = Math.max(Date.now() / 1000, this.points.at(-1)?.[0] ?? 0);
    // A young network's line fills the chart, too.
    const span = Math.min(this.span, Math.max(end - (this.points[0]?.[0] ?? 0), 60 * this.seconds));
    const begin = end - span;
    const step = Math.max(1, Math.ceil((this.seconds / span) * width), Math.ceil(width / 600));
    const count = Math.ceil(width / step);
    const sums = new Float64Array(count);
    const filled = new Uint32Array(count);
    for (const [start, packets] of this.points) {
      const place = Math.floor(((start - begin) / span) * count);
      if (place < 0) continue;
      sums[Math.min(place, count - 1)] += packets / this.seconds;
      filled[Math.min(place, count - 1)] += 1;
    }
    const values = Array.from(sums, (sum, place) => (filled[place] ? sum / filled[place] : null));
    // A second that fell between two frames is no gap.
    for (let place = 1; place < count - 1; place += 1) {
      const next = values[place + 1] ?? values[place + 2] ?? null;
      if (values[place] === null && values[place - 1] !== null && next !== null) values[place] = (values[place - 1] + next) / 2;
    }
    return { begin, span, values };
  }

  draw() {
    const shape = prepare(this.canvas);
    if (!shape) return;
    const { context, width, height } = shape;
    const [inner, tall] = [width - LEFT - 2, height - TOP - BOTTOM];
    const { begin, span, values } = this.columns(inner);
    const known = values.filter((value) => value !== null);
    const top = nice(Math.max(...known, 1));
    const [line, soft, flow, faint, ink] = ["line", "soft", "flow", "flow-soft", "ink"].map(colour);
    const x = (place) => LEFT + ((place + 0.5) / values.length) * inner;
    const y = (value) => TOP + tall * (1 - value / top);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = soft;
    context.strokeStyle = line;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const part of [0, 0.5, 1]) {
      context.fillText(number(top * part), LEFT - 8, y(top * part));
      context.beginPath();
      context.moveTo(LEFT, Math.round(y(top * part)) + 0.5);
      context.lineTo(width, Math.round(y(top * part)) + 0.5);
      context.stroke();
    }
    context.textBaseline = "bottom";
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      context.textAlign = part === 0 ? "left" : part === 1 ? "right" : "center";
      context.fillText(this.label(begin + span * part, span), LEFT + inner * part, height);
    }
    const gradient = context.createLinearGradient(0, TOP, 0, TOP + tall);
    gradient.addColorStop(0, faint);
    gradient.addColorStop(1, "transparent");
    for (const [from, to] of runs(values)) {
      context.beginPath();
      // A single point is a short line.
      if (to - from === 1) context.moveTo(x(from) - 1, y(values[from]));
      for (let place = from; place < to; place += 1) context.lineTo(x(place), y(values[place]));
      context.strokeStyle = flow;
      context.lineWidth = 1.6;
      context.lineJoin = "round";
      context.stroke();
      context.lineTo(x(to - 1), y(0));
      context.lineTo(x(from), y(0));
      context.fillStyle = gradient;
      context.fill();
    }
    this.describe(context, values, known, begin, span, x, y, ink, height);
  }

  describe(context, values, known, begin, span, x, y, ink, height) {
    const place = this.cursor === null ? null : Math.min(values.length - 1, Math.floor(this.cursor * values.length));
    if (place !== null) {
      context.fillStyle = ink;
      context.fillRect(x(place) - 0.5, TOP, 1, height - TOP - BOTTOM);
      if (values[place] !== null) {
        context.beginPath();
        context.arc(x(place), y(values[place]), 3.5, 0, 7);
        context.fill();
      }
      const when = this.label(begin + (span * (place + 0.5)) / values.length, Math.min(span, 599));
      this.text.textContent = values[place] === null ? `${when}: nothing is known` : `${when}: ${number(values[place])} packets a second`;
      return;
    }
    const sum = known.reduce((total, value) => total + value, 0);
    this.text.textContent = known.length
      ? `On average ${number(sum / known.length)}, at most ${number(Math.max(...known))}. Arrow keys or a pointer read single points.`
      : "Nothing has been recorded yet.";
  }

  label(seconds, span) {
    if (this.span <= 86400) return clock(seconds, span < 600);
    return new Date(seconds * 1000).toLocaleDateString([], { month: "short", day: "numeric" });
  }
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function runs(values) {
  const found = [];
  let from = null;
  for (let place = 0; place <= values.length; place += 1) {
    const there = place < values.length && values[place] !== null;
    if (there && from === null) from = place;
    if (!there && from !== null) {
      found.push([from, place]);
      from = null;
    }
  }
  return found;
}
