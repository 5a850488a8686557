(() => {
  // A picture that is shown smaller than it is opens in its own size: by a click, a tap or Enter.
  // On a phone its letters can then be read. Escape, a click or the button closes it again.
  let box, shown;
  const open = (img) => {
    if (!box) {
      box = document.createElement("dialog");
      box.className = "enlarged";
      box.setAttribute("aria-label", "Picture in its own size");
      box.innerHTML = '<button type="button" aria-label="Close">&times;</button><div tabindex="0"><img></div>';
      shown = box.querySelector("img");
      box.addEventListener("click", () => box.close());
      document.body.append(box);
    }
    shown.src = img.currentSrc || img.src;
    shown.alt = img.alt;
    box.showModal();
  };
  const small = (img) => img.naturalWidth > img.clientWidth + 40;
  const watch = (img) => {
    if (img.closest("a, button") || img.src.includes("images/strip_")) return;
    const mark = () => {
      const can = small(img);
      img.classList.toggle("can-enlarge", can);
      if (can) img.tabIndex = 0;
      else img.removeAttribute("tabindex");
    };
    if (img.complete) mark();
    img.addEventListener("load", mark);
    window.addEventListener("resize", mark);
    img.addEventListener("click", () => small(img) && open(img));
    img.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" || !small(img)) return;
      e.preventDefault();
      open(img);
    });
  };
  const start = () => document.querySelectorAll("main.content img").forEach(watch);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
