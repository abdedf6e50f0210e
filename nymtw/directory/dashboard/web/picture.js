// The network as a picture: layers from left to right, a mark for each node, traffic as moving width.

import { colour, prepare, short } from "./dom.js";

const LAYERS = ["Layer 1", "Layer 2", "Layer 3"];
const TOP = 34;
const BOTTOM = 12;
const CROSSING = 1900; // milliseconds from one layer to the next
const MOST_DOTS = 48; // between two layers
const EASE_BELOW = 150; // with more nodes the bands change in steps

const isGateway = (node) => node.role === "gateway";
const smooth = (t) => t * t * (3 - 2 * t);

export class Picture {
  constructor(canvas, tip, open) {
    this.canvas = canvas;
    this.tip = tip;
    this.columns = [[], [], [], [], []];
    this.edges = ["Providers"]; // what the first and the last column are called
    this.flows = [0, 0, 0, 0];
    this.shown = [0, 0, 0, 0];
    this.base = document.createElement("canvas");
    this.dots = [];
    this.visible = true;
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.hide());
    canvas.addEventListener("click", (event) => {
      const mark = this.at(event);
      if (mark) open(mark.node.identityKey);
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    new IntersectionObserver((entries) => {
      this.visible = entries.at(-1).isIntersecting;
      this.wake();
    }).observe(canvas);
    document.addEventListener("visibilitychange", () => this.wake());
    this.still.addEventListener("change", () => this.redraw());
  }

  update(nodes) {
    const mixnodes = [1, 2, 3].map((layer) => nodes.filter((node) => node.role === "mixnode" && node.layer === layer));
    const edges = nodes.filter((node) => node.role !== "mixnode");
    const total = (list, field) => list.reduce((sum, node) => sum + node[field], 0);
    this.columns = [edges, ...mixnodes, edges];
    this.flows = [total(mixnodes[0], "received"), ...mixnodes.map((layer) => total(layer, "sent"))];
    this.count = nodes.length;
    const [into, one, two, three] = this.flows;
    const gone = nodes.filter((node) => node.gone || node.stale).length;
    const gateways = edges.filter(isGateway).length;
    this.edges = [...(gateways < edges.length || !gateways ? ["Providers"] : []), ...(gateways ? ["Gateways"] : [])];
    const label = `${edges.length - gateways} providers and ${gateways} gateways; mixnodes in layers 1 to 3: ${mixnodes.map((layer) => layer.length).join(", ")}. ` +
      `Packets in the past second: ${into} into layer 1, ${one} to layer 2, ${two} to layer 3, ${three} out.` +
      (gone ? ` ${gone} nodes are silent.` : "");
    this.canvas.setAttribute("aria-label", label);
    if (this.still.matches || this.count > EASE_BELOW) this.shown = [...this.flows];
    this.redraw();
  }

  redraw() {
    this.layout();
    this.drawBase();
    this.wake();
    if (this.still.matches) this.frame(performance.now());
  }

  layout() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.width = width;
    this.height = height;
    const margin = Math.max(26, width * 0.05);
    this.marks = [];
    this.places = this.columns.map((nodes, column) => {
      const x = margin + ((width - 2 * margin) * column) / 4;
      const room = height - TOP - BOTTOM;
      const radius = Math.max(1.3, Math.min(width < 500 ? 6 : 9, (room / Math.max(nodes.length, 1)) * 0.34));
      return nodes.map((node, row) => {
        const mark = { node, x, y: TOP + (room * (row + 0.5)) / nodes.length, radius };
        this.marks.push(mark);
        return mark;
      });
    });
  }

  // The strands of one gap: each node's share, meeting in the middle, where nobody can tell them apart.
  strands(gap) {
    const room = this.height - TOP - BOTTOM;
    const largest = Math.max(...this.shown, 1);
    const trunk = (this.shown[gap] / largest) * room * 0.3 * Math.min(1, 0.25 + Math.log10(1 + largest) / 3);
    const side = (marks, field) => {
      const sum = marks.reduce((total, mark) => total + mark.node[field], 0);
      let y = TOP + room / 2 - trunk / 2;
      return marks.map((mark) => {
        const share = sum ? mark.node[field] / sum : 1 / marks.length;
        const width = trunk * share;
        y += width;
        return { mark, share, width, middle: y - width / 2 };
      });
    };
    const from = this.places[gap];
    const to = this.places[gap + 1];
    return { left: side(from, gap ? "sent" : "none"), right: side(to, gap < 3 ? "received" : "none"), trunk };
  }

  drawBase() {
    const { width, height } = this;
    if (!width || !height) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    [this.base.width, this.base.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const context = this.base.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [flow, soft, stale, gone, card, ink] = ["flow", "soft", "stale", "gone", "card", "ink"].map(colour);
    this.colours = { glow: colour("glow"), flow };
    for (const column of this.places) for (const mark of column) mark.node.none = 1;
    this.gaps = [0, 1, 2, 3].map((gap) => this.strands(gap));
    const byKey = (strands) => new Map(strands.map((strand) => [strand.mark.node.identityKey, strand]));
    this.found = this.gaps.map(({ left, right }) => [byKey(left), byKey(right)]);
    context.fillStyle = flow;
    for (const [gap, { left, right }] of this.gaps.entries()) {
      if (!left.length || !right.length) continue;
      const x0 = left[0].mark.x;
      const x1 = right[0].mark.x;
      const middle = (x0 + x1) / 2;
      context.globalAlpha = this.shown[gap] ? 0.26 : 0.1;
      for (const [strands, start] of [[left, x0], [right, x1]]) {
        for (const { mark, width: thickness, middle: y } of strands) {
          const half = Math.max(thickness, 0.7) / 2;
          const end = Math.min(half, mark.radius * 0.9);
          const bend = (start + middle) / 2;
          context.beginPath();
          context.moveTo(start, mark.y - end);
          context.bezierCurveTo(bend, mark.y - end, bend, y - half, middle, y - half);
          context.lineTo(middle, y + half);
          context.bezierCurveTo(bend, y + half, bend, mark.y + end, start, mark.y + end);
          context.fill();
        }
      }
    }
    context.globalAlpha = 1;
    for (const { node, x, y, radius } of this.marks) {
      context.beginPath();
      if (isGateway(node)) context.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
      else context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fillStyle = node.gone || node.stale ? card : node.role === "mixnode" ? flow : ink;
      context.fill();
      context.lineWidth = Math.min(2, radius * 0.6);
      context.strokeStyle = node.gone ? gone : node.stale ? stale : card;
      context.setLineDash(node.stale && !node.gone ? [3, 2] : []);
      context.stroke();
    }
    context.setLineDash([]);
    context.fillStyle = soft;
    context.font = `${width < 500 ? 11 : 12.5}px system-ui, sans-serif`;
    context.textBaseline = "top";
    for (const [column, names] of [this.edges, ...LAYERS.map((name) => [name]), this.edges].entries()) {
      const x = Math.max(26, width * 0.05) + ((width - 2 * Math.max(26, width * 0.05)) * column) / 4;
      context.textAlign = column === 0 ? "left" : column === 4 ? "right" : "center";
      names.forEach((name, line) => context.fillText(name, column === 0 ? 4 : column === 4 ? width - 4 : x, 4 + 15 * line));
    }
  }

  wake() {
    if (!this.running && this.visible && !document.hidden && !this.still.matches) {
      this.running = true;
      requestAnimationFrame((now) => this.frame(now));
    }
  }

  frame(now) {
    this.running = false;
    const shape = prepare(this.canvas);
    if (!shape) return;
    const { context, width, height } = shape;
    if (this.shown.some((value, gap) => Math.abs(value - this.flows[gap]) > 0.02 * this.flows[gap] + 0.5)) {
      this.shown = this.shown.map((value, gap) => value + (this.flows[gap] - value) * 0.12);
      this.drawBase();
    }
    context.drawImage(this.base, 0, 0, width, height);
    if (this.still.matches) return;
    this.move(now);
    context.fillStyle = this.colours.glow;
    for (const dot of this.dots) {
      const t = (now - dot.born) / CROSSING;
      const [left, right] = [this.found[dot.gap][0].get(dot.left), this.found[dot.gap][1].get(dot.right)];
      const x = left.mark.x + (right.mark.x - left.mark.x) * t;
      const first = left.middle + dot.aside * left.width;
      const second = right.middle + dot.aside * right.width;
      const waist = first + (second - first) * smooth(Math.min(1, Math.max(0, (t - 0.35) / 0.3)));
      const y = t < 0.5 ? left.mark.y + (waist - left.mark.y) * smooth(Math.min(1, t * 2))
        : waist + (right.mark.y - waist) * smooth(Math.max(0, t * 2 - 1));
      context.globalAlpha = Math.min(1, 6 * t, 6 * (1 - t));
      context.fillRect(x - 1.4, y - 1.4, 2.8, 2.8);
    }
    context.globalAlpha = 1;
    this.wake();
  }

  // Dots are a sign of traffic, not packets: their number grows with its logarithm.
  move(now) {
    this.dots = this.dots.filter(({ gap, born, left, right }) => now - born < CROSSING && this.found[gap][0].has(left) && this.found[gap][1].has(right));
    for (const [gap, { left, right }] of this.gaps.entries()) {
      if (!left.length || !right.length || !this.flows[gap]) continue;
      const wanted = Math.min(MOST_DOTS, 6 * Math.log2(1 + this.flows[gap]));
      const have = this.dots.filter((dot) => dot.gap === gap).length;
      const chance = (wanted - have) / 20;
      if (Math.random() < chance) {
        this.dots.push({ gap, born: now, left: pick(left).mark.node.identityKey, right: pick(right).mark.node.identityKey, aside: Math.random() * 0.8 - 0.4 });
      }
    }
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let nearest = 14;
    for (const mark of this.marks ?? []) {
      const distance = Math.hypot(mark.x - x, mark.y - y) - mark.radius;
      if (distance < nearest) [best, nearest] = [mark, distance];
    }
    return best;
  }

  point(event) {
    const mark = this.at(event);
    this.canvas.classList.toggle("over", Boolean(mark));
    if (!mark) return this.hide();
    const { node } = mark;
    const what = node.role === "mixnode" ? `${node.received} in, ${node.sent} out in the past second` : `${node.clients} registered clients`;
    this.tip.textContent = [`${node.role} ${short(node.identityKey)}`, node.description.slice(0, 90), what, node.gone ? "gone" : ""].filter(Boolean).join("\n");
    this.tip.hidden = false;
    const left = Math.min(mark.x + 14, this.width - this.tip.offsetWidth - 4);
    this.tip.style.left = `${Math.max(4, left)}px`;
    this.tip.style.top = `${Math.min(mark.y + 12, this.height - this.tip.offsetHeight)}px`;
  }

  hide() {
    this.tip.hidden = true;
  }
}

function pick(strands) {
  let left = Math.random();
  for (const strand of strands) if ((left -= strand.share) <= 0) return strand;
  return strands.at(-1);
}
