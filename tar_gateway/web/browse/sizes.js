"use strict";
// Sizes of archives in bytes, by the rules of their formats, and in words.
const { ofArchive, inWords } = (() => {
  const utf8 = new TextEncoder(), plain = /^[\x00-\x7f]*$/;
  const bytes = (name) => (plain.test(name) ? name.length : utf8.encode(name).length);
  const record = (key, value) => {  // a pax record counts its own length
    const rest = bytes(value) + key.length + 3;
    let length = rest + String(rest).length;
    if (rest + String(length).length > length) length = rest + String(length).length;
    return length;
  };
  const fits = (name) => {  // into ustar's name and prefix
    if (name.length <= 100) return true;
    const cut = name.slice(0, 156).lastIndexOf("/");
    return cut > 0 && name.length - cut - 1 <= 100;
  };
  const inTar = (name, size) => {
    const records = (plain.test(name) && fits(name) ? 0 : record("path", name)) +
      (size < 8 ** 11 ? 0 : record("size", String(size)));
    const pax = records && 512 + Math.ceil(records / 512) * 512;
    return pax + 512 + Math.ceil(size / 512) * 512;
  };
  const inZip = (name, size) => {
    const data = size + 5 * Math.max(1, Math.ceil(size / 65535)), large = data >= 0xffffffff;
    const sizes = (size >= 0xffffffff) + large;
    return 76 + 2 * bytes(name) + 18 + data + (large ? 20 + 24 : 16) + (sizes && 4 + 8 * sizes);
  };
  const ofArchive = (format, files) => {  // [name, size] of each
    const zip = format === "zip", each = zip ? inZip : inTar;
    const written = (name) => (/^[A-Za-z]:/.test(name) ? "./" + name : name);
    const size = files.reduce((all, [name, size]) => all + each(written(name), size), 0);
    return zip ? size + 22 : Math.ceil((size + 1024) / 10240) * 10240;
  };
  const inWords = (size) => {
    if (size < 1000) return size + (size === 1 ? " byte" : " bytes");
    let unit = -1;
    do { size /= 1000; unit += 1; } while (size >= 999.5 && unit < 5);
    return size.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0) + " " + "kMGTPE"[unit] + "B";
  };
  return { ofArchive, inWords };
})();
