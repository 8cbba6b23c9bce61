import { defineConfig } from "vite";

/** `tusd_py/asgi/ui.py` has it too. */
const FILES = "ui";

export default defineConfig({
  // Relative, so that the page works below any path that a proxy serves it at.
  base: "./",
  build: {
    target: "es2022",
    assetsDir: `${FILES}/assets`,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { index: "index.html", "tusd-py-upload": "src/element.tsx" },
      output: {
        // The one name that other people's pages know stays; all others have a hash.
        entryFileNames: ({ name }) =>
          name === "tusd-py-upload" ? `${FILES}/[name].js` : `${FILES}/assets/[name]-[hash].js`,
      },
    },
  },
  // In a page of another origin a worker may import no module from here, and may load a script.
  worker: { format: "iife" },
});
