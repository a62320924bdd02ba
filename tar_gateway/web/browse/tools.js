"use strict";
// What needs nothing of the page: texts, elements, ranges of indices, and the place above paths.
const { number, words, make, ranges, common } = (() => {
  const number = (n) => n.toLocaleString("en");
  const words = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
  const make = (tag, set, ...inside) => {
    const made = Object.assign(document.createElement(tag), set);
    made.append(...inside);
    return made;
  };
  const ranges = (indices) => {
    const parts = [];
    indices.sort((a, b) => a - b).forEach((index) => {
      const last = parts[parts.length - 1];
      if (last && last[1] === index - 1) last[1] = index; else parts.push([index, index]);
    });
    return parts.map(([a, b]) => (a === b ? a : a + "-" + b)).join(",");
  };
  const common = (paths) => paths.reduce((a, b) => {
    while (!b.startsWith(a)) a = a.slice(0, a.lastIndexOf("/", a.length - 2) + 1);
    return a;
  });
  return { number, words, make, ranges, common };
})();
