// A table that sorts, filters and updates in place.

import { element, setText } from "./dom.js";

const FIRST_ROWS = 50; // more are shown when they are asked for

export class Table {
  // `columns`: {name, value(row), text(row)?, number?, narrow?, link?, class?}; `empty` is said where there is no row.
  constructor(section, title, columns, empty, sorted) {
    this.columns = columns;
    this.rows = [];
    this.shown = new Map();
    this.all = false;
    this.filter = "";
    this.sorted = sorted;
    this.count = element("span", { class: "count" });
    const heading = element("h2", { id: `${section.id}-title` }, title);
    this.input = element("input", { type: "search", placeholder: "Filter", "aria-label": `Filter ${title.toLowerCase()}`,
      oninput: () => { this.filter = this.input.value.trim().toLowerCase(); this.draw(); } });
    this.headers = columns.map((column, place) => {
      const button = element("button", { type: "button", onclick: () => this.sort(place) }, column.name);
      return element("th", { scope: "col", "aria-sort": "none", class: classes(column) }, button);
    });
    this.body = element("tbody");
    this.table = element("table", { "aria-labelledby": heading.id }, element("thead", {}, element("tr", {}, ...this.headers)), this.body);
    this.scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": heading.id }, this.table);
    this.empty = element("p", { class: "empty" }, empty);
    this.more = element("button", { type: "button", class: "more", onclick: () => { this.all = !this.all; this.draw(); } });
    section.append(element("div", { class: "bar" }, heading, this.count, this.input), this.scroll, this.empty, this.more);
    this.emptyText = empty;
  }

  sort(place) {
    const [column, down] = this.sorted;
    this.sorted = [place, column === place ? !down : Boolean(this.columns[place].number)];
    this.draw();
  }

  update(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    const [place, down] = this.sorted;
    const { value } = this.columns[place];
    const found = this.filter
      ? this.rows.filter((row) => row.search.includes(this.filter) || this.columns.some((column) => String(column.value(row)).toLowerCase().includes(this.filter)))
      : [...this.rows];
    const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    found.sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)) || order(a.identityKey, b.identityKey));
    const visible = this.all ? found : found.slice(0, FIRST_ROWS);
    this.headers.forEach((header, at) => header.setAttribute("aria-sort", at !== place ? "none" : down ? "descending" : "ascending"));
    setText(this.count, this.filter ? `${found.length} of ${this.rows.length}` : String(this.rows.length));
    this.scroll.hidden = !found.length;
    this.input.hidden = !this.rows.length;
    this.empty.hidden = Boolean(found.length);
    setText(this.empty, this.rows.length ? "Nothing here fits the filter." : this.emptyText);
    this.more.hidden = found.length <= FIRST_ROWS;
    setText(this.more, this.all ? `Show ${FIRST_ROWS}` : `Show all ${found.length}`);
    this.place(visible);
  }

  place(rows) {
    const kept = new Map();
    const lines = rows.map((row) => {
      const line = this.shown.get(row.identityKey) ?? this.line(row);
      kept.set(row.identityKey, line);
      this.columns.forEach((column, at) => {
        const text = column.text ? column.text(row) : String(column.value(row));
        setText(line.cells[at], text);
      });
      const state = row.gone ? "gone" : row.stale ? "stale" : "";
      if (line.element.className !== state) line.element.className = state;
      return line.element;
    });
    this.shown = kept;
    const same = lines.length === this.body.children.length && lines.every((line, at) => this.body.children[at] === line);
    if (!same) {
      // The focus stays on its row, wherever that goes.
      const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
      this.body.replaceChildren(...lines);
      if (focused?.isConnected) focused.focus({ preventScroll: true });
    }
  }

  line(row) {
    const cells = [];
    const line = element("tr", {}, ...this.columns.map((column) => {
      const cell = element("td", { class: classes(column) });
      const target = column.link?.(row);
      const inside = target ? element("a", { href: target, rel: "noreferrer", title: column.value(row) }) : column.state ? element("span", { class: "state" }) : cell;
      if (inside !== cell) cell.append(inside);
      cells.push(inside);
      return cell;
    }));
    return { element: line, cells };
  }
}

const classes = (column) => [column.number ? "number" : "", column.narrow ? "narrow-out" : "", column.class ?? ""].join(" ").trim();
