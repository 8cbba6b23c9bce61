/** The page of `tusd-py serve`: the uploader, its settings, what was sent before, and help. */

import "./element.tsx";
import { render } from "preact";
import { useCallback, useEffect, useReducer, useRef, useState } from "preact/hooks";
import type { Headers } from "./download.ts";
import type { UploadElement } from "./element.tsx";
import { Server } from "./server.ts";
import { loadSettings, type Settings, saveSettings } from "./settings.ts";
import { load, save } from "./stored.ts";
import { Help } from "./view/help.tsx";
import { HistoryTable } from "./view/history.tsx";
import { Operator } from "./view/operator.tsx";
import { ServerUploads } from "./view/server_uploads.tsx";
import { SettingsForm } from "./view/settings.tsx";
import { SignIn } from "./view/sign_in.tsx";
import { useSure } from "./view/sure.tsx";
import { LANGUAGES, type Language, nearest, speak, type Words } from "./words/index.ts";

const LANGUAGE_KEY = "tusd-py.language";
const TOKEN_KEY = "tusd-py.token";

declare module "preact" {
  namespace JSX {
    interface IntrinsicElements {
      "tusd-py-upload": HTMLAttributes<UploadElement> & {
        endpoint: string;
        headers: Headers;
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

/** What the user has given, and who gets it. */
interface Access {
  /** Empty for none. */
  token: string;
  headers: Headers;
  server: Server;
}

function Page({ endpoint, language, words }: PageProps) {
  const [settings, setSettings] = useState(loadSettings);
  const [, showAgain] = useReducer((count: number) => count + 1, 0);
  const [access, setAccess] = useState(() => accessBy(loadToken()));
  const [isUnknown, setUnknown] = useState(false);
  const unknown = useCallback(() => setUnknown(true), []);
  const [ask, sure] = useSure(words);
  const element = useRef<UploadElement>(null);
  const help = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const uploader = element.current;
    uploader?.addEventListener("upload-changed", showAgain);
    uploader?.addEventListener("upload-unauthorized", unknown);
    return () => {
      uploader?.removeEventListener("upload-changed", showAgain);
      uploader?.removeEventListener("upload-unauthorized", unknown);
    };
  }, []);
  const enter = (entered: string) => {
    save(TOKEN_KEY, entered, "sessionStorage");
    setUnknown(false);
    setAccess(accessBy(entered));
  };
  const change = (changed: Settings) => {
    saveSettings(changed);
    setSettings(changed);
  };
  const { chunk, parallel, algorithm, begins } = settings;
  const uploader = element.current?.uploader;
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
        <SignIn token={access.token} isUnknown={isUnknown} words={words} enter={enter} />
        <tusd-py-upload
          ref={element}
          endpoint={endpoint}
          headers={access.headers}
          lang={language}
          chunk-size={String(chunk)}
          parallel={String(parallel)}
          checksum={algorithm ?? "none"}
          wait={!begins}
          drop-anywhere
        />
        <SettingsForm settings={settings} words={words} change={change} />
        <HistoryTable uploader={uploader} words={words} ask={ask} />
        <ServerUploads
          server={access.server}
          uploader={uploader}
          words={words}
          ask={ask}
          unknown={unknown}
        />
        <Operator server={access.server} words={words} unknown={unknown} />
      </main>
      {sure}
      <Help dialog={help} words={words} />
    </>
  );
}

/** A new one each time: what was refused with the old one is tried again with it. */
function accessBy(token: string): Access {
  const headers: Headers = token === "" ? {} : { Authorization: `Bearer ${token}` };
  return { token, headers, server: new Server(headers) };
}

const loadToken = () => load(TOKEN_KEY, isText, "sessionStorage") ?? "";

const isText = (value: unknown): value is string => typeof value === "string";
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

void show(nearest(load(LANGUAGE_KEY, isText) ?? navigator.languages));
