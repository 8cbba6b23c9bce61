/** The page of `tusd-py serve`: the uploader, its settings, what was sent before, and help. */

import "./element.tsx";
import { render } from "preact";
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import type { UploadElement } from "./element.tsx";
import { loadSettings, type Settings, saveSettings } from "./settings.ts";
import { load, save } from "./stored.ts";
import { Help } from "./view/help.tsx";
import { HistoryTable } from "./view/history.tsx";
import { SettingsForm } from "./view/settings.tsx";
import { LANGUAGES, type Language, nearest, speak, type Words } from "./words/index.ts";

const LANGUAGE_KEY = "tusd-py.language";

declare module "preact" {
  namespace JSX {
    interface IntrinsicElements {
      "tusd-py-upload": HTMLAttributes<UploadElement> & {
        endpoint: string;
        lang: string;
        "chunk-size": string;
        parallel: string;
        checksum: string;
        wait: boolean;
        "drop-anywhere": boolean;
      };
    }
  }
}

interface PageProps {
  endpoint: string;
  language: Language;
  words: Words;
}

function Page({ endpoint, language, words }: PageProps) {
  const [settings, setSettings] = useState(loadSettings);
  const [, showAgain] = useReducer((count: number) => count + 1, 0);
  const element = useRef<UploadElement>(null);
  const help = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const uploader = element.current;
    uploader?.addEventListener("upload-changed", showAgain);
    return () => uploader?.removeEventListener("upload-changed", showAgain);
  }, []);
  const change = (changed: Settings) => {
    saveSettings(changed);
    setSettings(changed);
  };
  const { chunk, parallel, algorithm, begins } = settings;
  return (
    <>
      <header>
        <h1>{words.title}</h1>
        <div class="tools">
          <label>
            <span class="unseen">{words.language}</span>
            <select value={language} onChange={(event) => choose(event.currentTarget.value)}>
              {Object.entries(LANGUAGES).map(([tag, name]) => (
                <option key={tag} value={tag} lang={tag}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <button type="button" onClick={() => help.current?.showModal()}>
            {words.help}
          </button>
        </div>
        <p>{words.intro}</p>
      </header>
      <main>
        <tusd-py-upload
          ref={element}
          endpoint={endpoint}
          lang={language}
          chunk-size={String(chunk)}
          parallel={String(parallel)}
          checksum={algorithm ?? "none"}
          wait={!begins}
          drop-anywhere
        />
        <SettingsForm settings={settings} words={words} change={change} />
        <HistoryTable uploader={element.current?.uploader} words={words} />
      </main>
      <Help dialog={help} words={words} />
    </>
  );
}

const root = document.getElementById("page");

async function show(language: Language): Promise<void> {
  const { words } = await speak(language);
  if (root === null) return;
  document.documentElement.lang = language;
  document.title = `${words.title} · tusd-py`;
  const endpoint = root.dataset.endpoint ?? "";
  render(<Page endpoint={endpoint} language={language} words={words} />, root);
}

function choose(language: string): void {
  save(LANGUAGE_KEY, language);
  void show(nearest(language));
}

const isText = (value: unknown): value is string => typeof value === "string";
void show(nearest(load(LANGUAGE_KEY, isText) ?? navigator.languages));
