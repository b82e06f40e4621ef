"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 900px)");
  // On dark paper the palette's dark blue, green and red are too faint; their lighter neighbours keep the hue.
  const light = { "#0072B2": "#4da3dd", "#009E73": "#3fc39b", "#D55E00": "#f0803c", "rgba(213,94,0,0.18)": "rgba(240,128,60,0.25)", "rgba(0,114,178,0.18)": "rgba(77,163,221,0.25)" };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const css = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };

  function recolour(value) {
    if (typeof value === "string") return light[value] || value;
    if (Array.isArray(value)) return value.map(recolour);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, recolour(v)]));
    return value;
  }

  function themed(plot, canvas) {
    const ink = css("--ink"), soft = css("--soft"), line = css("--line"), raised = css("--raised");
    const layout = structuredClone(plot.layout);
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      Object.assign(layout[name], { color: soft, gridcolor: line, linecolor: line, tickcolor: line, fixedrange: narrow.matches });
    }
    if (narrow.matches && layout.xaxis.ticktext) layout.xaxis.tickangle = -40;
    if (canvas.dataset.log === "1") Object.assign(layout.yaxis, { type: "log", dtick: "D1", tickformat: "~g" });
    Object.assign(layout, {
      autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      hoverlabel: { bgcolor: raised, bordercolor: line, font: { color: ink } },
      dragmode: narrow.matches ? false : "zoom",
    });
    return { data: isDark() ? plot.data.map(recolour) : plot.data, layout };
  }

  const config = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const plots = new Map();
  const drawn = new Set();
  function draw(canvas) {
    const { data, layout } = themed(plots.get(canvas), canvas);
    drawn.add(canvas);
    return Plotly.react(canvas, data, layout, { ...config, displayModeBar: narrow.matches ? false : "hover" });
  }
  const redraw = () => drawn.forEach(draw);
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        watcher.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin: "600px" });

  for (const holder of document.querySelectorAll("script.data")) {
    const figures = JSON.parse(holder.textContent);
    for (const canvas of holder.parentElement.querySelectorAll(".canvas")) {
      plots.set(canvas, figures[Number(canvas.dataset.plot)]);
      watcher.observe(canvas);
    }
  }
  addEventListener("beforeprint", () => plots.forEach((_, canvas) => drawn.has(canvas) || draw(canvas)));
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);

  for (const button of document.querySelectorAll("button.log")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const canvas = button.closest(".plot").querySelector(".canvas");
      const on = canvas.dataset.log !== "1";
      canvas.dataset.log = on ? "1" : "0";
      button.setAttribute("aria-pressed", String(on));
      draw(canvas);
    });
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "✓";
      } catch {
        getSelection().selectAllChildren(code);
      }
    });
  }

  const language = document.getElementById("language");
  function speak(code) {
    root.lang = code;
    language.textContent = code === "ko" ? "English" : "한국어";
  }
  language.hidden = false;
  language.addEventListener("click", () => speak(root.lang === "ko" ? "en" : "ko"));
  speak((navigator.language || "en").startsWith("ko") ? "ko" : "en");

  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    redraw();
  });

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const here = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) links.get(target.id)?.classList.toggle("here", isIntersecting);
  }, { rootMargin: "-30% 0px -65% 0px" });
  document.querySelectorAll(".stage").forEach((section) => here.observe(section));
})();
