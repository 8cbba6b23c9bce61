// Does in Firefox what a line says, [what, with what] as JSON, and answers with a line: what came of
// it as JSON, or why it failed as plain words.
// Arguments: the program of Firefox, and a folder for its profile.

import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const [executablePath, userDataDir] = process.argv.slice(2);
const WITHIN = 60_000; // milliseconds; only a machine that is busy with other things needs them
const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath,
  userDataDir,
  headless: true,
  timeout: WITHIN,
  protocolTimeout: 2 * WITHIN,
});
const page = await browser.newPage();
page.setDefaultTimeout(WITHIN);

/** What the page should not have: errors of its own, and requests to other hosts. */
const faults = [];
page.on("pageerror", (error) => faults.push(String(error)));
page.on("request", (request) => {
  const { protocol, hostname } = new URL(request.url());
  if (protocol.startsWith("http") && hostname !== "127.0.0.1") faults.push(request.url());
});

const does = {
  open: async (url) => void (await page.goto(url)),
  choose: async (path) => {
    const input = await page.waitForSelector(">>> input[type=file]:not([webkitdirectory])");
    await input.uploadFile(path);
  },
  wait: async (expression) => void (await page.waitForFunction(expression)),
  shoot: async (path) => void (await page.screenshot({ path, fullPage: true })),
  faults: () => faults,
};

console.log("null");
for await (const line of createInterface({ input: process.stdin })) {
  const [what, how] = JSON.parse(line);
  try {
    console.log(JSON.stringify((await does[what](how)) ?? null));
  } catch (error) {
    console.log(`${what}: ${String(error).replaceAll("\n", " ")}`);
  }
}
await browser.close();
