// Elements, made by code alone: text never becomes markup.

/** An element of a class (or several), with children: elements or text. */
export function make(tag, classes = "", ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...children.filter((each) => each !== null && each !== ""));
  return element;
}

/** A patch of a profile's colour. */
export function swatch(classes) {
  const element = make("span", ["swatch", ...classes].join(" "));
  element.setAttribute("aria-hidden", "true");
  return element;
}

/** 1 → "1 GPU", 2 → "2 GPUs". */
export const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
