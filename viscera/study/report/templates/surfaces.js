"use strict";
// Surfaces that turn: ground truth beside one arm, both turned alike. Without WebGL the still pictures stay.
(() => {
  const place = document.querySelector("[data-surfaces]");
  if (!place) return;
  const data = JSON.parse(place.querySelector('script[type="application/json"]').textContent);
  const canvas = place.querySelector("canvas"), choice = place.querySelector("select");
  const [truth, ...arms] = data.maps;
  const VERTEX = `attribute vec3 position, normal; uniform mat4 modelViewMatrix, projectionMatrix; uniform mat3 normalMatrix;
    varying vec3 n; varying float x; void main() {
    n = normalMatrix * normal; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); x = gl_Position.x; }`;
  const FRAGMENT = `precision highp float; uniform vec3 colour; uniform float side; varying vec3 n; varying float x; void main() {
    if (x * side < 0.0) discard;  // of the other pane
    float lit = 0.45 + 0.6 * max(dot(normalize(n), vec3(-0.36, 0.56, 0.75)), 0.0);
    gl_FragColor = vec4(min(colour * lit, 1.0), 1.0); }`;

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;

  // from right, front, up (RAS, millimetres) to the screen's right, up and towards the viewer, who looks from the front
  const corners = (packed) => {
    const ras = new Int16Array(bytes(packed)), screen = new Float32Array(ras.length);
    for (let i = 0; i < ras.length; i += 3) {
      screen[i] = -ras[i] / 32767;
      screen[i + 1] = ras[i + 2] / 32767;
      screen[i + 2] = ras[i + 1] / 32767;
    }
    return screen;
  };

  // mean of the faces' normals by area, outwards: a closed surface has a positive volume
  const normals = (p, faces) => {
    const n = new Float32Array(p.length);
    let volume = 0;
    for (let f = 0; f < faces.length; f += 3) {
      const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
      const [ux, uy, uz] = [p[b] - p[a], p[b + 1] - p[a + 1], p[b + 2] - p[a + 2]];
      const [vx, vy, vz] = [p[c] - p[a], p[c + 1] - p[a + 1], p[c + 2] - p[a + 2]];
      const [x, y, z] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
      volume += x * p[a] + y * p[a + 1] + z * p[a + 2];
      for (const i of [a, b, c]) { n[i] += x; n[i + 1] += y; n[i + 2] += z; }
    }
    if (volume < 0) for (let i = 0; i < n.length; i++) n[i] = -n[i];
    return n;
  };

  let started = false;
  const start = () => {
    started = true;
    const renderer = new OGL.Renderer({ canvas, alpha: true, antialias: true, dpr: Math.min(2, devicePixelRatio) });
    const { gl } = renderer;
    gl.clearColor(0, 0, 0, 0);

    const camera = new OGL.Camera(gl), scene = new OGL.Transform();
    camera.position.z = 10;
    const programs = (side) => data.organs.map(({ colour }) => new OGL.Program(gl, {
      vertex: VERTEX,
      fragment: FRAGMENT,
      cullFace: false,
      uniforms: { side: { value: side }, colour: { value: [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255) } },
    }));
    const [left_programs, right_programs] = [programs(-1), programs(1)];
    const models = new Map(), shownOrgans = data.organs.map(() => true);
    const model = (map) => {
      if (!models.has(map)) {
        const tilt = new OGL.Transform(), turn = new OGL.Transform(), centred = new OGL.Transform();
        turn.setParent(tilt);
        centred.setParent(turn);
        const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
        const organs = map.meshes.map((mesh) => {
          const position = corners(mesh.corners);
          position.forEach((value, at) => {
            low[at % 3] = Math.min(low[at % 3], value);
            high[at % 3] = Math.max(high[at % 3], value);
          });
          const index = new (mesh.wide ? Uint32Array : Uint16Array)(bytes(mesh.faces));
          const geometry = new OGL.Geometry(gl, {
            position: { size: 3, data: position }, normal: { size: 3, data: normals(position, index) }, index: { data: index },
          });
          const body = new OGL.Mesh(gl, { geometry, program: (map === truth ? left_programs : right_programs)[mesh.organ], frustumCulled: false });
          body.setParent(centred);
          return [body, mesh.organ];
        });
        models.set(map, { tilt, turn, centred, low, high, organs });
      }
      return models.get(map);
    };

    const view = { turn: 0, tilt: 14, zoom: 1 };
    let right = arms[0], width = 0, height = 0, asked = false;
    const draw = () => {
      asked = false;
      if (!width) return;
      const pair = [model(truth), model(right)];  // both as large, and about one centre
      const low = [0, 1, 2].map((at) => Math.min(...pair.map((each) => each.low[at])));
      const high = [0, 1, 2].map((at) => Math.max(...pair.map((each) => each.high[at])));
      const radius = Math.hypot(...high.map((value, at) => (value - low[at]) / 2)) * 0.86;
      const half = radius / view.zoom, wide = half * width / height / 2;  // of one of the two panes
      const fit = Math.max(1, half * 0.8 / wide);
      camera.orthographic({ left: -2 * wide * fit, right: 2 * wide * fit, bottom: -half * fit, top: half * fit, near: 0.1, far: 20 });
      for (const { tilt } of models.values()) tilt.setParent(null);
      pair.forEach((each, at) => {
        const side = 2 * at - 1;
        each.tilt.setParent(scene);
        each.tilt.position.x = side * wide * fit;
        each.tilt.rotation.x = view.tilt * Math.PI / 180;
        each.turn.rotation.y = view.turn * Math.PI / 180;
        each.centred.position.set(...high.map((value, axis) => -(value + low[axis]) / 2));
        for (const [body, organ] of each.organs) body.visible = shownOrgans[organ];
      });
      renderer.render({ scene, camera });
    };
    const redraw = () => { if (!asked) { asked = true; requestAnimationFrame(draw); } };
    new ResizeObserver(([entry]) => {
      ({ width, height } = entry.contentRect);
      renderer.setSize(width, height);
      canvas.style.width = canvas.style.height = "";
      redraw();
    }).observe(canvas.parentElement);

    arms.forEach((arm, index) => choice.add(new Option(arm.title, String(index))));
    choice.addEventListener("change", () => { right = arms[Number(choice.value)]; redraw(); });
    const best = Number(place.dataset.surfaces);
    choice.value = String(best);
    right = arms[best];
    place.querySelectorAll("[data-organ]").forEach((button) => button.addEventListener("click", () => {
      const organ = Number(button.dataset.organ);
      shownOrgans[organ] = !shownOrgans[organ];
      button.setAttribute("aria-pressed", String(shownOrgans[organ]));
      redraw();
    }));

    const turned = (x, y) => {
      view.turn += x;
      view.tilt = Math.min(90, Math.max(-90, view.tilt + y));
      redraw();
    };
    const zoomed = (factor) => { view.zoom = Math.min(6, Math.max(0.5, view.zoom * factor)); redraw(); };
    const reset = () => { Object.assign(view, { turn: 0, tilt: 14, zoom: 1 }); redraw(); };
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) turned(event.movementX * 0.5, event.pointerType === "touch" ? 0 : event.movementY * 0.5);
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoomed(Math.exp(-event.deltaY / 200));
    }, { passive: false });
    const keys = {
      ArrowLeft: () => turned(-10, 0), ArrowRight: () => turned(10, 0), ArrowUp: () => turned(0, -10), ArrowDown: () => turned(0, 10),
      "+": () => zoomed(1.2), "=": () => zoomed(1.2), "-": () => zoomed(1 / 1.2), 0: reset,
    };
    canvas.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      keys[event.key]();
      event.preventDefault();
    });
    place.querySelector("[data-zoom='in']").addEventListener("click", () => zoomed(1.2));
    place.querySelector("[data-zoom='out']").addEventListener("click", () => zoomed(1 / 1.2));
    place.querySelector("[data-zoom='reset']").addEventListener("click", reset);
  };

  const trial = document.createElement("canvas");
  if (!(trial.getContext("webgl2") || trial.getContext("webgl"))) return;
  place.hidden = false;
  document.querySelector("[data-stills]").open = false;

  // decoded when it comes near the window, so that the page opens at once
  const section = place.closest("section");
  new IntersectionObserver((entries, observer) => {
    if (!started && entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); start(); }
  }, { rootMargin: "400px" }).observe(section);
})();
