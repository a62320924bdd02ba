"use strict";
(() => {
  // What the page does without this: a form. With it: counts, sizes, ranges, and ticks that stay.
  const form = document.querySelector("form"), body = form.querySelector("tbody");
  const say = JSON.parse(form.dataset.texts), KEY = "tar-gateway", here = location.pathname;
  const own = form.getAttribute("action"), signed = own.includes("signature=");
  const $ = (selector) => form.querySelector(selector);

  // --- what is kept from page to page: names, since indices are of one listing ---------------
  const load = () => {
    try { return JSON.parse(sessionStorage.getItem(KEY)) || {}; } catch { return {}; }
  };
  let kept = Object.assign({ ticks: {}, pages: {} }, load());
  if (signed) kept.pages[here] = own;
  let saving;
  const save = () => {
    clearTimeout(saving);
    try { sessionStorage.setItem(KEY, JSON.stringify(kept)); } catch { /* full or forbidden */ }
  };
  addEventListener("pagehide", save);
  if (!body) return save();

  const rows = Array.from(body.rows, (tr) => {
    const [first, head, third] = tr.cells, link = head.querySelector("a");
    const told = third.querySelector("data");
    return {
      tr, link, box: first.firstChild, third, folder: tr.className === "folder",
      index: +first.firstChild.value, size: told && +told.value,
      name: decodeURIComponent((head.dataset.r || link.getAttribute("href")).slice(2)),
    };
  });
  const byBox = new Map(rows.map((row) => [row.box, row]));
  const all = $("[name=all]"), search = $("input[type=search]"), sum = $(".sum"), more = $(".more");
  const button = $(".main"), format = $("select"), notice = $(".notice"), label = $(".all span");
  $(".filter").hidden = false;
  rows.forEach((row) => { row.box.removeAttribute("name"); });
  all.removeAttribute("name");

  // --- what is ticked --------------------------------------------------------------------------
  const shown = () => rows.filter((row) => !row.tr.hidden);
  const keep = () => {
    const ticked = rows.filter((row) => row.box.checked);
    const text = ticked.map((row) => [row.index, row.name, row.size]);
    if (text.length) kept.ticks[here] = { of: form.dataset.of, rows: text };
    else delete kept.ticks[here];
    clearTimeout(saving);
    // Firefox may lose what is only written when the page is left.
    if (text.length < 1000) save(); else saving = setTimeout(save, 300);
  };
  const selection = () => {
    const places = Object.keys(kept.ticks), base = places.length ? common(places) : here;
    const chosen = { base, files: [], folders: 0, away: 0, unknown: 0, fields: [] };
    for (const place of places) {
      const before = decodeURIComponent(place.slice(base.length)), { of, rows } = kept.ticks[place];
      for (const [, name, size] of rows) {
        if (name.endsWith("/")) chosen.folders += 1;
        else chosen.files.push([before + name, size]);
        if (size === null) chosen.unknown += !name.endsWith("/");
      }
      if (place !== here) chosen.away += rows.length;
      chosen.fields.push(["ticked", `${before}:${of}:${ranges(rows.map((row) => row[0]))}`]);
    }
    if (places.length === 1 && base === here && all.checked && !search.value) {
      chosen.fields = [["all", "yes"]];
    }
    chosen.fields.push(["format", format.value]);
    const query = base === here || !signed ? own : kept.pages[base];
    chosen.action = query && base + query;
    return chosen;
  };

  // --- what is said of it ----------------------------------------------------------------------
  const some = (n, one, many) => n && (n === 1 ? say[one] : words(say[many], { n: number(n) }));
  const counted = (chosen) => words(say[chosen.away ? "elsewhere" : "selected"], {
    n: number(chosen.away), what: [
      some(chosen.files.length, "file", "files"), some(chosen.folders, "folder", "folders"),
    ].filter(Boolean).join(say.and),
  });
  const tell = (text, exact) => {
    if (sum.textContent !== text) sum.textContent = text;
    if (exact === undefined) sum.removeAttribute("data-size"); else sum.dataset.size = exact;
  };
  const warn = (...inside) => { notice.replaceChildren(...inside); notice.hidden = !inside.length; };
  const buttons = $(".do");
  const clear = make("button", { type: "button", className: "plain", textContent: say.clear });
  const cancel = make("button", { type: "button", textContent: say.cancel, hidden: true });
  const itself = make("a", { className: "button main", hidden: true });
  itself.setAttribute("download", "");
  buttons.prepend(clear);
  buttons.append(itself, cancel);
  const code = make("code"), copy = make("button", { type: "button", textContent: say.copy });
  const lines = make("details", { hidden: true }, make("summary", { textContent: say.command }),
    make("pre", {}, code), copy);
  $(".bar").append(lines);

  const describe = (chosen, size, packs = format.value !== "tar" && format.value !== "zip") => {
    const what = counted(chosen);
    const known = chosen.files.reduce((all, [, size]) => all + (size || 0), 0);
    if (size !== undefined) tell(words(say.archive, { what, size: inWords(size) }), size);
    else if (chosen.unknown) tell(words(say.unknown, { what }));
    else if (chosen.folders) tell(words(say.atLeast, { what, size: inWords(known) }));
    else if (packs) tell(words(say.unpacked, { what, size: inWords(known) }), known);
    else {
      const exact = ofArchive(format.value, chosen.files);
      tell(words(say.archive, { what, size: inWords(exact) }), exact);
    }
  };

  let asking, timer, link, missing = false, wanted = false, faulty = false;
  const settle = () => {
    clearTimeout(timer);
    if (asking) asking.abort();
    asking = link = null;
    wanted = false;
    cancel.hidden = lines.hidden = more.hidden = true;
  };
  const update = () => {
    settle();
    missing = false;
    const visible = shown(), ticked = visible.filter((row) => row.box.checked).length;
    all.checked = visible.length > 0 && ticked === visible.length;
    all.indeterminate = ticked > 0 && !all.checked;
    label.textContent = search.value ? words(say.allShown, { n: number(visible.length) })
      : say.everything;
    const chosen = selection(), n = chosen.files.length + chosen.folders;
    const one = n === 1 && chosen.files.length && chosen.base === here &&
      rows.find((row) => row.box.checked);
    itself.hidden = !(one && one.link);
    if (one && one.link) {
      itself.href = one.link.href;
      itself.textContent = words(say.itself, { name: one.name });
    }
    button.className = itself.hidden ? "main" : "";
    button.textContent = itself.hidden ? say.download : say.asArchive;
    clear.hidden = button.disabled = !n;
    if (!n) return tell(say.none);
    describe(chosen);
    const most = +form.dataset.most;
    if (n > most && !all.checked) {
      button.disabled = true;
      return tell(words(say.tooMany, { n: number(n), most: number(most) }));
    }
    if (!chosen.action) { button.disabled = true; return tell(say.visit); }
    timer = setTimeout(ask, 500, chosen);
  };

  // --- asking the server -----------------------------------------------------------------------
  const json = { Accept: "application/json" };
  const linkOf = async (chosen, fields, signal) => {
    const sent = new URLSearchParams(fields);
    if (missing) sent.append("missing", "report");
    const answer = await fetch(chosen.action, { method: "POST", body: sent, headers: json, signal });
    if (!answer.ok) throw await answer.json();
    return new URL((await answer.json()).link, answer.url).href;
  };
  const PIECE = 1000;
  const lookUp = async (chosen, signal) => {
    // Sizes that the listing does not tell, in pieces, so that one sees how far it is.
    const waiting = rows.filter((row) => row.box.checked && !row.folder && row.size === null);
    for (let done = 0; done < waiting.length; done += PIECE) {
      tell(words(say.lookingUpSome, { n: number(done), all: number(waiting.length) }));
      const piece = waiting.slice(done, done + PIECE);
      const text = `:${form.dataset.of}:${ranges(piece.map((row) => row.index))}`;
      const place = await linkOf({ action: own }, [["ticked", text]], signal);
      const answer = await fetch(place + "&plan=json", { headers: json, signal });
      const plan = await answer.json();
      if (!answer.ok) throw plan;
      const sizes = new Map(plan.members.map((member) => [member.name, member.size]));
      piece.forEach((row) => {
        row.size = sizes.get(row.name);
        row.third.replaceChildren(make("data", { value: row.size, textContent: inWords(row.size) }));
      });
    }
    keep();
  };
  const ask = async (chosen) => {
    const mine = (asking = new AbortController()), signal = mine.signal;
    const slow = setTimeout(() => { tell(say.lookingUp); cancel.hidden = false; }, 1000);
    try {
      const here = rows.reduce((n, r) => n + (r.box.checked && !r.folder && r.size === null), 0);
      if (here > PIECE) {
        cancel.hidden = false;
        clearTimeout(slow);
        await lookUp(chosen, signal);
        Object.assign(chosen, selection());
      }
      const found = await linkOf(chosen, chosen.fields, signal);
      let size, resumes = false;
      if (here <= PIECE) {
        const head = await fetch(found, { method: "HEAD", headers: json, signal });
        if (!head.ok) throw await (await fetch(found + "&plan=json", { headers: json, signal })).json();
        size = head.headers.get("Content-Length");
        resumes = head.headers.get("Accept-Ranges") === "bytes";
      }
      if (mine !== asking) return;
      link = found;
      describe(chosen, size === null ? undefined : size === undefined ? size : +size);
      more.textContent = resumes ? say.resumes : "";
      more.hidden = !resumes;
      const quoted = `'${found.replace(/'/g, "%27")}'`;
      code.textContent = `curl -fOJ ${quoted}\ntar-gateway get ${quoted}`;
      lines.hidden = false;
      if (faulty) warn();  // what is said of ticks that are gone stays
      faulty = false;
    } catch (error) {
      if (mine === asking) refused(error, chosen);
    } finally {
      clearTimeout(slow);
      if (mine === asking) {
        const go = wanted && link;
        cancel.hidden = true;
        asking = null;
        button.disabled = wanted = false;
        if (go) form.requestSubmit();
      }
    }
  };
  const refused = (problem, chosen) => {
    faulty = true;
    describe(chosen);
    if (!problem.detail) return warn(problem.name === "AbortError" ? "" : say.failed);
    const said = problem.detail[0].toUpperCase() + problem.detail.slice(1) + ".";
    const members = problem.members || [], inside = [said];
    if (members.length) {
      const items = members.slice(0, 10).map((m) => make("li", {}, make("bdi", {}, m.path), `: ${m.reason}`));
      const rest = problem.count - items.length;
      if (rest > 0) items.push(make("li", { textContent: words(say.more, { n: number(rest) }) }));
      inside.push(make("ul", {}, ...items));
      if (members.every((m) => [403, 404].includes(m.status)) && !missing) {
        const others = make("button", { type: "button", textContent: say.others });
        others.onclick = () => { settle(); missing = true; ask(selection()); };
        inside.push(others);
      }
    }
    if (problem.status === 412) {
      const again = make("button", { type: "button", textContent: say.again });
      again.onclick = () => { save(); location.reload(); };
      inside.push(" ", again);
    }
    if (problem.status === 413) inside.push(" ", say.less);
    warn(...inside);
  };

  // --- what people do --------------------------------------------------------------------------
  let last = null;
  const changed = () => { keep(); update(); };
  const between = (a, b) => {
    const list = shown(), [from, to] = [list.indexOf(a), list.indexOf(b)].sort((x, y) => x - y);
    return from < 0 ? [b] : list.slice(from, to + 1);
  };
  body.addEventListener("click", (event) => {
    const row = byBox.get(event.target);
    if (!row) return;
    if (event.shiftKey && last) between(last, row).forEach((r) => { r.box.checked = row.box.checked; });
    last = row;
    changed();
  });
  body.addEventListener("keydown", (event) => {
    const row = byBox.get(event.target), step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (row && step) {
      const list = shown(), next = list[list.indexOf(row) + step];
      event.preventDefault();
      if (!next) return;
      if (event.shiftKey) { next.box.checked = row.box.checked; changed(); }
      last = next;
      next.box.focus();
    } else if (row && event.key === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      all.click();
    }
  });
  all.addEventListener("click", () => {
    shown().forEach((row) => { row.box.checked = all.checked; });
    changed();
  });
  search.addEventListener("input", () => {
    const text = search.value.toLowerCase();
    rows.forEach((row) => { row.tr.hidden = !row.name.toLowerCase().includes(text); });
    warn(...(shown().length ? [] : [say.noMatch]));
    update();
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
    if (event.key === "Escape" && search.value) {
      event.preventDefault();
      search.value = "";
      search.dispatchEvent(new Event("input"));
    }
  });
  format.addEventListener("change", update);
  clear.addEventListener("click", () => {
    kept.ticks = {};
    rows.forEach((row) => { row.box.checked = false; });
    warn();
    changed();
  });
  cancel.addEventListener("click", () => { settle(); button.disabled = false; describe(selection()); });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = say.copied;
    } catch { getSelection().selectAllChildren(code); }
  });
  form.addEventListener("submit", (event) => {
    const chosen = selection();
    save();
    if (asking) {  // its answer is on the way, and a form would plan all of it once more
      event.preventDefault();
      button.disabled = wanted = true;
      return;
    }
    if (link) {
      event.preventDefault();
      location.assign(link);
    } else {
      clearTimeout(timer);
      const fields = chosen.fields.filter(([key]) => key !== "format");
      if (missing) fields.push(["missing", "report"]);
      const inputs = fields.map(([name, value]) => make("input", { type: "hidden", name, value }));
      form.append(...inputs);
      form.action = chosen.action;
      setTimeout(() => inputs.forEach((input) => input.remove()));
    }
    more.textContent = say.starting;
    more.hidden = false;
    setTimeout(() => { button.disabled = true; });
    setTimeout(() => { button.disabled = false; }, 3000);
  });

  // --- ticks come back -------------------------------------------------------------------------
  const restore = () => {
    const before = kept.ticks[here], names = new Map();
    if (before) before.rows.forEach(([, name, size]) => names.set(name, size));
    rows.forEach((row) => {
      row.box.checked = names.delete(row.name);
    });
    if (names.size) warn(words(say.gone, { n: some(names.size, "entry", "entries") }));
    if (signed) {
      document.querySelectorAll("[data-up]").forEach((step) => {
        const above = here.split("/").slice(0, -1 - step.dataset.up).join("/") + "/";
        const page = kept.pages["page:" + above];
        if (page) step.replaceChildren(make("a", { href: page }, ...step.childNodes));
      });
      kept.pages["page:" + here] = location.href;
    }
    changed();
  };
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    kept = Object.assign({ ticks: {}, pages: {} }, load());
    restore();
  });
  restore();
})();
