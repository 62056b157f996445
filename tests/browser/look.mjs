// Opens each page at each size and in each scheme: what axe finds, what scrolls sideways, what the keyboard cannot
// reach, what the console says. Ends with 1 where that is anything. Each is kept as a picture.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const task = JSON.parse(process.argv[2]);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIZES = [{ width: 360, height: 800 }, { width: 1280, height: 900 }];
const SCHEMES = ["light", "dark"];
const faults = [];

// Without these Chromium talks to its maker.
const args = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-proxy-server"];
if (process.getuid?.() === 0) args.push("--no-sandbox");
const browser = await chromium.launch({ executablePath: task.browser, args });

for (const [name, url] of Object.entries(task.pages)) {
  for (const viewport of SIZES) {
    for (const colorScheme of SCHEMES) {
      const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
      const page = await context.newPage();
      const where = `${name}-${viewport.width}-${colorScheme}`;
      const fault = (what) => faults.push(`${where}: ${what}`);
      page.on("console", (message) => {
        // That the page itself has this status is what was asked for.
        const expected = task.status >= 400 && message.location().url === url && message.text().includes(`${task.status}`);
        if (!expected) fault(`console: ${message.text()}`);
      });
      page.on("pageerror", (error) => fault(`error: ${error}`));
      page.on("request", (request) => { if (request.url() !== url && !request.url().startsWith("data:")) fault(`asks for ${request.url()}`); });
      const response = await page.goto(url);
      if (response.status() !== task.status) fault(`status ${response.status()}`);
      await page.screenshot({ path: `${task.folder}/${where}.png`, fullPage: true });
      await look(page, fault);
      await page.evaluate(() => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
      await look(page, fault);
      await page.screenshot({ path: `${task.folder}/${where}-open.png`, fullPage: true });
      await context.close();
    }
  }
  console.log(`looked at ${name}`);
}
await browser.close();
console.log(`Look at the screenshots in ${task.folder}.`);
for (const fault of faults) console.error(fault);
process.exit(faults.length ? 1 : 0);

async function look(page, fault) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) fault(`scrolls sideways by ${wide} px`);
  for (const text of await page.evaluate(cutOff)) fault(`is cut off: ${text}`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) fault(`axe ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.target)}`);
  await reachAll(page, fault);
}

// Elements that reach beyond the page: hidden, where something clips them.
function cutOff() {
  const beyond = [...document.querySelectorAll("main *, header *, footer *")].filter((each) => {
    const box = each.getBoundingClientRect();
    return box.width > 1 && (box.right > window.innerWidth + 1 || box.left < -1);
  });
  return beyond.slice(0, 3).map((each) => `${each.tagName} ${each.textContent.slice(0, 30)}`);
}

async function reachAll(page, fault) {
  const there = await page.evaluate(() => {
    document.activeElement?.blur();
    window.getSelection()?.removeAllRanges();
    const all = [...document.querySelectorAll("a[href], button, input, summary")].filter((each) => each.checkVisibility());
    all.forEach((each, number) => { each.dataset.number = number; });
    return all.length;
  });
  await page.evaluate(() => { document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute("tabindex"); });
  const reached = new Set();
  for (let presses = 0; presses <= there; presses += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const style = getComputedStyle(document.activeElement);
      return { number: document.activeElement.dataset.number, seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
    });
    if (focused.number === undefined) continue;
    reached.add(focused.number);
    if (!focused.seen) fault(`focus cannot be seen on ${focused.number}`);
  }
  if (reached.size !== there) fault(`the keyboard reaches ${reached.size} of ${there}`);
}
