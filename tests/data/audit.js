// What a person with another pair of eyes or hands needs, as far as a program can see it (WCAG 2.2 AA).
() => {
  const faults = [], say = (text, element) => faults.push(text + ": " + (element.outerHTML || "").slice(0, 120));
  const shown = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== "hidden";
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = (c) => {
    const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0.5) return c; }
    return [255, 255, 255, 1];
  };
  const contrast = (a, b) => { const x = light(a), y = light(b); return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  if (!document.documentElement.lang) say("no language", document.documentElement);
  if (!document.title) faults.push("no title");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids.filter((v, i) => ids.indexOf(v) !== i)) faults.push("id twice: " + id);
  for (const e of document.querySelectorAll("[aria-describedby], [aria-labelledby]"))
    for (const id of (e.getAttribute("aria-describedby") || e.getAttribute("aria-labelledby")).split(" "))
      if (!document.getElementById(id)) say("describes nothing", e);
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (shown(e) && !e.labels.length && !e.getAttribute("aria-label")) say("no label", e);
  for (const e of document.querySelectorAll("button, a[href], summary")) {
    if (!shown(e)) continue;
    if (!e.textContent.trim() && !e.getAttribute("aria-label")) say("no name", e);
    if (e.tagName === "BUTTON" && e.getBoundingClientRect().height < 24) say("too small to touch", e);
  }
  for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) say("no alt", e);
  for (const e of document.querySelectorAll("[style], [onclick]")) say("inline style or script", e);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.textContent.trim() || !shown(e) || e.closest(".unseen, script, noscript")) continue;
    const ratio = contrast(parse(getComputedStyle(e).color).slice(0, 3), behind(e).slice(0, 3));
    if (ratio < 4.5) say("contrast " + ratio.toFixed(2), e);
  }
  for (const e of document.querySelectorAll("input:not([type=hidden], [type=checkbox])"))
    if (shown(e) && contrast(parse(getComputedStyle(e).borderTopColor).slice(0, 3), behind(e.parentElement).slice(0, 3)) < 3)
      say("an edge that is hard to see", e);
  return faults;
}
