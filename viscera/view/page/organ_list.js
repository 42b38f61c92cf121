// The list of organs: which are shown, how large they are, how well they agree, and which should be looked at.

const EYE = "M9 4C5 4 2.2 7 1 9c1.2 2 4 5 8 5s6.800-3 8-5c-1.200-2-4-5-8-5zm0 8a3 3 0 1 1 0-6 3 3 0 0 1 0 6z";
const SVG = "http://www.w3.org/2000/svg";

export function element(tag, { text, className, title, ...more } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  if (title) made.title = title;
  for (const [name, value] of Object.entries(more)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function swatch(rgb) {
  const made = element("span", { className: "swatch" });
  made.style.backgroundColor = `rgb(${rgb.join(",")})`;
  return made;
}

// `1 case`, `2 cases`
export function counted(n, one, several = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : several}`;
}

export function number(value, digits) {
  return value === null || value === undefined ? "" : value.toFixed(digits);
}

function millilitres(value) {
  return value === 0 ? "–" : value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function eye(isOn, name, onclick) {
  const icon = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
  icon.setAttribute("viewBox", "0 0 18 18");
  path.setAttribute("d", EYE);
  path.setAttribute("fill", isOn ? "currentColor" : "none");
  path.setAttribute("stroke", "currentColor");
  icon.append(path);
  return element("button", {
    className: "eye", "aria-pressed": isOn, "aria-label": `Show ${name}`, title: "Show or hide (Shift: alone)", onclick,
  }, icon);
}

// organs: [{label, name, colour}], rows: by label as the server tells them; calls: {toggle, only, all, jump}
export function organTable(organs, rows, { hidden, selected }, calls) {
  const known = [...rows.values()];
  const has = { dice: known.some((row) => row.dice !== null), hu: known.some((row) => row.mean_hu !== null) };
  const head = element("tr", {},
    element("th", {},
      element("button", { text: "All", title: "Show all organs", onclick: () => calls.all(true) }),
      element("button", { text: "None", title: "Hide all organs", onclick: () => calls.all(false) })),
    known.some((row) => row.in_part)
      ? element("th", { text: "labelled mL", title: "Nobody labelled a part of this case: volumes are of what is labelled" })
      : element("th", { text: "mL" }),
    ...(has.hu ? [element("th", { text: "HU", title: "mean HU" })] : []),
    ...(has.dice ? [element("th", { text: "Dice" })] : []), element("th"));
  const flagged = known.filter((row) => row.reasons.length);
  const ofScan = flagged.length > 1 ? flagged[0].reasons.filter((why) => flagged.every((row) => row.reasons.includes(why))) : [];
  const body = element("tbody");
  for (const organ of organs) {
    const row = rows.get(organ.label), isOn = !hidden.has(organ.label);
    const isAbsent = row && row.volume_ml === 0;
    const cells = [
      element("td", {}, element("div", { className: "cell" },
        eye(isOn, organ.name, (event) => (event.shiftKey ? calls.only(organ.label) : calls.toggle(organ.label))),
        swatch(organ.colour),
        element("button", {
          text: organ.name, className: "jump", title: `Go to the ${organ.name}`, onclick: () => calls.jump(organ.label),
        }))),
      element("td", { text: row ? (row.unlabelled ? "" : millilitres(row.volume_ml)) : "" }),
      ...(has.hu ? [element("td", { text: row ? number(row.mean_hu, 0) : "" })] : []),
      ...(has.dice ? [element("td", {
        text: row ? number(row.dice, 2) : "", className: row?.dice !== null && row?.dice < 0.5 ? "low" : "",
      })] : []),
      element("td", { className: "flag", text: row?.reasons.length ? "⚑" : "", title: row?.reasons.join("; ") ?? "" }),
    ];
    const names = ["organ", isOn ? "" : "off", isAbsent ? "absent" : "", organ.label === selected ? "selected" : ""];
    const line = element("tr", { className: names.filter(Boolean).join(" "), "data-label": organ.label }, ...cells);
    body.append(line);
    if (row?.unlabelled) line.title = "Nobody labelled this organ here.";
    const own = row?.reasons.filter((why) => !ofScan.includes(why)) ?? [];
    if (own.length) {
      body.append(element("tr", { className: "reasons" }, element("td", { colspan: cells.length, text: own.join("; ") })));
    }
  }
  const table = element("table", {}, element("thead", {}, head), body);
  if (!ofScan.length) return table;
  return element("div", {}, element("p", { className: "of-scan", text: `⚑ The whole scan: ${ofScan.join("; ")}.` }), table);
}
