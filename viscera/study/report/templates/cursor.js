"use strict";
// Values under the cursor: what each line of a chart is at the nearest step, by mouse, finger or arrow keys.
(() => {
  const made = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

  const readable = (chart, series) => {
    const places = [...new Set(series.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
    if (!places.length) return;
    const line = made("div", { className: "line" }), box = made("div", { className: "read" }), drawn = [];
    let at = -1;
    const hide = () => { for (const each of [line, box, ...drawn.splice(0)]) each.remove(); at = -1; };
    const show = (index) => {
      hide();
      at = index;
      const x = places[at];
      box.replaceChildren();
      for (const each of series) {
        const point = each.points.find((p) => Math.abs(p[0] - x) < 1e-4);
        if (!point) continue;
        if (!box.childNodes.length) box.append(made("b", { textContent: point[2] }));
        const dot = made("div", { className: "dot" }), row = made("span"), mark = made("i");
        dot.style.cssText = `left:${100 * x}%;top:${100 * point[1]}%;background:${each.colour}`;
        mark.style.background = each.colour;
        row.append(mark, each.name, made("output", { textContent: point[3] }));
        box.append(row);
        drawn.push(dot);
      }
      line.style.left = `${100 * x}%`;
      box.style.top = "4px";
      box.style.left = x < 0.5 ? `calc(${100 * x}% + 12px)` : "auto";
      box.style.right = x < 0.5 ? "auto" : `calc(${100 * (1 - x)}% + 12px)`;
      chart.append(line, ...drawn, box);
    };
    const nearest = (x) => places.reduce((best, place, i) => Math.abs(place - x) < Math.abs(places[best] - x) ? i : best, 0);
    const follow = (event) => {
      const frame = chart.getBoundingClientRect();
      show(nearest((event.clientX - frame.left) / frame.width));
    };
    chart.addEventListener("pointermove", follow);
    chart.addEventListener("pointerdown", follow);
    chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    chart.addEventListener("blur", hide);
    chart.tabIndex = 0;
    chart.setAttribute("aria-label", "Values of the chart: arrow keys");
    box.setAttribute("role", "status");
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        show(at < 0 ? (step > 0 ? 0 : places.length - 1) : Math.min(places.length - 1, Math.max(0, at + step)));
        event.preventDefault();
      } else if (event.key === "Escape") hide();
    });
  };

  for (const chart of document.querySelectorAll(".chart")) {
    const data = chart.querySelector('script[type="application/json"]');
    if (data) readable(chart, JSON.parse(data.textContent));
  }
})();
