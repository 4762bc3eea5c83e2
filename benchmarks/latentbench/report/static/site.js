"use strict";
(() => {
  const root = document.documentElement;
  const stored = { get(k) { try { return localStorage.getItem(k); } catch { return null; } },
                   set(k, v) { try { localStorage.setItem(k, v); } catch { /* private windows keep nothing */ } } };
  const THEMES = ["automatic", "light", "dark"];
  const paint = (theme) => {
    if (theme === "automatic") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", theme);
  };
  let theme = THEMES.includes(stored.get("latentbench-theme")) ? stored.get("latentbench-theme") : "automatic";
  paint(theme);

  const fold = (s) => s.normalize("NFD").replace(/\p{M}/gu, "").toLocaleLowerCase();
  const make = (tag, cls, text) => {
    const e = document.createElement(tag);
    if (cls) e.className = cls;
    if (text !== undefined) e.textContent = text;
    return e;
  };

  function themes() {
    const button = document.querySelector("[data-theme-button]");
    const name = button.querySelector("[data-theme-name]");
    button.hidden = false;
    name.textContent = theme;
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      stored.set("latentbench-theme", theme);
      paint(theme);
      name.textContent = theme;
      button.title = "Theme: " + theme;
    });
  }

  const shown = (cell) => (cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim());

  function sortable(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((th, column) => {
      if (th.hasAttribute("data-fixed")) return;
      const button = make("button", "sort");
      button.type = "button";
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const was = th.getAttribute("aria-sort");
        const down = was === "ascending" || (was === null && th.dataset.first === "down");
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const keyed = [...body.rows].map((row) => [shown(row.cells[column]), row]);
        const numbers = keyed.every(([v]) => v === "" || !Number.isNaN(Number(v)));
        const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
        keyed.sort(([a], [b]) => {
          if (a === "" || b === "") return (a === "") - (b === "");
          const way = numbers ? Number(a) - Number(b) : order.compare(a, b);
          return down ? -way : way;
        });
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  function filters(form) {
    const tables = form.hasAttribute("data-filter-all")
      ? [...document.querySelectorAll("table.ranking")] : [document.getElementById(form.dataset.filter)];
    const rows = tables.flatMap((t) => [...t.tBodies[0].rows]);
    const texts = new Map(rows.map((r) => [r, fold(r.textContent)]));
    const count = form.querySelector("[data-count]");
    const apply = () => {
      const want = {};
      form.querySelectorAll("[data-field]").forEach((f) => { want[f.dataset.field] = f.value.trim(); });
      const words = fold(want.text || "").split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        const keep = words.every((w) => texts.get(row).includes(w)) && Object.entries(want).every(([k, v]) =>
          k === "text" || v === "" || (k === "from" ? Number(row.dataset.year) >= Number(v) : row.dataset[k] === v));
        row.hidden = !keep;
        left += keep;
      }
      count.textContent = left + " of " + rows.length;
      document.querySelectorAll("section.lboard").forEach((s) => {
        s.hidden = ![...s.querySelectorAll(".ranking tbody tr")].some((r) => !r.hidden);
      });
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (e) => e.preventDefault());
    apply();
  }

  function near(word, text) {
    if (text.includes(word)) return text.startsWith(word) || text.includes(" " + word) ? 3 : 2;
    if (word.length < 4) return 0;
    return text.split(/[\s\-_,.:()]+/).some((t) => Math.abs(t.length - word.length) < 2 && edits(word, t) < 2) ? 1 : 0;
  }

  function edits(a, b) {
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++)
        next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1]));
      row = next;
    }
    return row[b.length];
  }

  function search(input) {
    const data = JSON.parse(document.getElementById(input.dataset.search).textContent);
    const index = data.map((e) => ({ ...e, title: fold(e.t), rest: fold(e.w) }));
    const hits = document.getElementById("hits");
    const count = document.querySelector("[data-search-count]");
    const apply = () => {
      const words = fold(input.value).split(/\s+/).filter(Boolean);
      hits.replaceChildren();
      hits.hidden = !words.length;
      count.textContent = "";
      if (!words.length) return;
      const found = [];
      for (const e of index) {
        let score = 0;
        for (const w of words) {
          const s = Math.max(2 * near(w, e.title), near(w, e.rest));
          if (!s) { score = 0; break; }
          score += s;
        }
        if (score) found.push([score + (e.k === "paper" ? 0.5 : 0), e]);
      }
      found.sort((a, b) => b[0] - a[0]);
      for (const [, e] of found.slice(0, 30)) {
        const item = make("li");
        const link = make("a");
        link.href = e.h;
        link.append(make("span", "hit-kind", e.k), make("bdi", "", e.t));
        item.append(link);
        hits.append(item);
      }
      if (!found.length) hits.append(make("li", "note", "Nothing of that name."));
      count.textContent = found.length + " found";
    };
    input.addEventListener("input", apply);
    input.addEventListener("keydown", (e) => {
      const first = hits.querySelector("a");
      if (e.key === "ArrowDown" && first) { first.focus(); e.preventDefault(); }
      if (e.key === "Enter" && first) { e.preventDefault(); first.click(); }
      if (e.key === "Escape") { input.value = ""; apply(); }
    });
    hits.addEventListener("keydown", (e) => {
      const links = [...hits.querySelectorAll("a")];
      const at = links.indexOf(document.activeElement);
      if (e.key === "ArrowDown" && links[at + 1]) { links[at + 1].focus(); e.preventDefault(); }
      if (e.key === "ArrowUp") { (links[at - 1] || input).focus(); e.preventDefault(); }
      if (e.key === "Escape") { input.focus(); }
    });
    apply();
  }

  function pairs(form) {
    const side = (name) => form.querySelector("[data-side=" + name + "]");
    const found = [...document.querySelectorAll("section.pair-result")];
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const name of ["a", "b"]) if (asked.has(name)) side(name).value = asked.get(name);
    const apply = () => {
      const [a, b] = [side("a").value, side("b").value];
      let any = false;
      for (const s of found) {
        const one = [s.dataset.a, s.dataset.b];
        s.hidden = !((one[0] === a && one[1] === b) || (one[0] === b && one[1] === a));
        any = any || !s.hidden;
      }
      document.querySelector("[data-nothing]").hidden = any;
      form.querySelector("[data-count]").textContent = found.length + " pairs";
      history.replaceState(null, "", "#a=" + a + "&b=" + b);
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (e) => e.preventDefault());
    apply();
  }

  function copies(button) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.dataset.copy;
      try { await navigator.clipboard.writeText(text); } catch {
        const area = make("textarea");
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  function reveal() {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    if (target) target.scrollIntoView();
  }

  document.addEventListener("DOMContentLoaded", () => {
    themes();
    document.querySelectorAll("table[data-sortable]").forEach(sortable);
    document.querySelectorAll("form[data-filter], form[data-filter-all]").forEach(filters);
    document.querySelectorAll("input[data-search]").forEach(search);
    document.querySelectorAll("[data-copy]").forEach(copies);
    document.querySelectorAll("form[data-pair]").forEach(pairs);
    if (location.hash) reveal();
    addEventListener("hashchange", reveal);
    document.addEventListener("keydown", (e) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
      if (e.key !== "/" || typing || e.ctrlKey || e.metaKey || e.altKey) return;
      e.preventDefault();
      const input = document.getElementById("q");
      if (input) { input.focus(); input.select(); } else location.href = document.body.dataset.root + "index.html#q";
    });
  });
})();
