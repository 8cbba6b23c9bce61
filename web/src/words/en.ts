/** What the page says, in English. */

export const en = {
  locale: "en",
  title: "Upload files",
  intro: "Drop files or folders anywhere on this page. What breaks off goes on where it was.",
  language: "Language",
  help: "Help",
  close: "Close",

  settings: "Settings",
  chunks: "Size of a request",
  chunksOne: "The whole file",
  chunksAuto: "Automatic chunks",
  chunksFixed: (size: string) => `Chunks of ${size}`,
  chunksSay:
    "Chunks suit proxies that limit a request, and lines that damage data: each has a checksum.",
  parallel: "Parts at the same time",
  parallelSay: (size: string) => `Of a file above ${size}. Helps on fast, distant lines.`,
  checksum: "Checksum of each chunk",
  checksumNone: "None",
  checksumSay: "A chunk that arrives wrong is sent again by itself.",
  begin: "Begin as soon as a file is chosen",
  beginSay: "Otherwise there is time to edit pictures and look things over.",

  parts: "Chunks",
  partsNothing: "Nothing is under way.",
  partsStored: "was there before",
  partsAcknowledged: "acknowledged",
  partsInFlight: "in flight",
  partsMissing: "still here",
  partsLine: (acknowledged: string, stored: string, flying: string, size: string) =>
    `${acknowledged} acknowledged, ${stored} there before, ${flying} in flight, of ${size}`,
  partsRequests: (count: number, chunk: string) =>
    `${count} ${count === 1 ? "request" : "requests"} answered; ${chunk}`,
  partsNow: (size: string) => `chunks of ${size} now`,
  partsWhole: "no chunks",
  partsAgain: (count: number, at: string) =>
    count === 1 ? `sent again once, at ${at}` : `sent again ${count} times, last at ${at}`,

  history: "Uploads of this browser",
  historyNothing: "None yet.",
  historyFinished: "finished",
  historyUnderWay: "unfinished",
  historyExpires: (when: string) => `kept until ${when}`,
  historyGoOn: "Choose the same file again to go on.",
  historyForget: "Remove from this list",
  historyDelete: "Delete on the server",
  historyDeleteSure: (name: string) => `Delete ${name} on the server? It cannot be brought back.`,
  namedButton: (button: string, name: string) => `${button}: ${name}`,
  cancel: "Cancel",

  server: "Uploads on the server",
  serverSoFar: (offset: string, size: string) => `${offset} of ${size}`,
  serverProgress: (name: string) => `Progress of ${name}`,
  serverPause: "Pause",
  serverResume: "Resume",
  serverDelete: "Delete",
  serverLimit: "At most, MB/s",
  serverNoLimit: "no limit",
  serverMore: "Show older ones",
  perSecond: (size: string) => `${size}/s`,
  states: {
    receiving: "unfinished",
    paused: "paused",
    finishing: "being finished",
    complete: "finished",
    failed: "refused",
    terminated: "deleted",
    expired: "expired",
  },

  operator: "How busy the server is",
  operatorSpeed: "Received per second",
  operatorMemory: "Memory",
  operatorOpen: "Unfinished uploads",
  operatorOpenActive: (open: number, active: number) => `${open}, ${active} of them moving`,
  operatorReceived: "Received since the start",
  operatorFinished: "Finished since the start",
  operatorDisk: "Free on the disk",
  operatorSince: "Started",
  operatorVersion: "Version",
  operatorWorkers: (version: string, workers: number) =>
    `${version}, ${workers} ${workers === 1 ? "worker" : "workers"}`,
  operatorErrors: "Refused requests since the start",
  operatorNoErrors: "None.",

  signIn: "Sign in",
  signInToken: "Access token",
  signInSay: "This server takes uploads from those it knows. Whoever runs it has a token for you.",
  signInWrong: "The server does not know this token, or no longer.",
  signedIn: "Signed in with a token, which is forgotten when this tab is closed.",
  signOut: "Forget it",

  offline: "The network is gone. Uploads go on by themselves when it is back.",
  online: "The network is back.",
  problems: "Messages",
  alreadyThere: (name: string) => `${name} is on the server already; nothing was sent again.`,
  begunAgain: (name: string) =>
    `The server no longer had the beginning of ${name} (it may have expired); it is sent anew.`,
  trying: "It is tried again by itself.",
  restored: "Uploads that were broken off go on.",
  chooseAgain: (name: string) =>
    `Choose ${name} again to go on: it was too large for the browser to keep over a restart.`,

  errorNetwork: "The server does not answer. Check the network, and whether the server runs.",
  errorUnreadable:
    "The file cannot be read any more: it was changed, moved or removed. Choose it again.",
  errorDamaged:
    "A chunk arrived damaged every time it was sent. Something between here and the server " +
    "changes data; try another network, or chunks of another size.",
  errorPaused: "This upload was paused on the server, and goes on when it is resumed there.",
  errorUnknown: "The server does not know who you are, or no longer. Sign in, and it goes on.",
  errorAuthority: "The server does not allow this. Ask whoever runs it for access.",
  errorTooLarge: "The file is larger than the server takes. Ask whoever runs it, or send less.",
  errorProxyTooLarge:
    "A server on the way does not take so much at once. Choose chunks in the settings, and retry.",
  errorGone: "The server no longer has this upload. Retry to send it from the beginning.",
  errorFull: "The disk of the server is full. What came is kept; tell whoever runs it.",
  errorBusy: "The server is busy with this upload or with others.",
  errorServer: (status: number) =>
    `The server met an error of its own (${status}). What came is kept; retry later.`,
  errorRefused: (status: number, said: string) =>
    `The server refused the file (${status})${said ? `: ${said}` : ""}. ` +
    "Ask whoever runs it, or reload the page and retry.",
  errorHere: (says: string) => `Something went wrong in this page: ${says}. Reload it, and go on.`,
  errorPrefix: (name: string, says: string) => `${name}: ${says}`,
  /** In place of Uppy's own: what it has not in this language, or says without what to do, or at length. */
  uppy: {
    exceedsSize:
      "%{file} is larger than the server takes (%{size}). Ask whoever runs it, or send less.",
  } as Readonly<Record<string, string>>,
  endpointMissing: "This uploader has no endpoint: set the attribute of that name.",

  helpTitle: "What this page can do",
  helpLines: [
    ["Send", "Drop files or folders, choose them, or take a picture with the camera."],
    ["Pause and resume", "Each file has a button for it, and the bar below has one for all."],
    [
      "After a reload or a crash",
      "Open the page again in the same browser: uploads go on from the byte where they were. " +
        "Files above 512 MB have to be chosen again; they, too, go on from there.",
    ],
    ["Without a network", "Uploads wait, and go on by themselves."],
    ["Cancel", "The cross at a file removes it, also what the server has of it."],
    [
      "Chunks and checksums",
      "With chunks, each is checked when it arrives, and sent again if it was damaged.",
    ],
    [
      "What the server has",
      "The two lists at the end, once unfolded: every upload there, with buttons that pause, resume " +
        "and delete it and a limit for its speed, and how busy the server is.",
    ],
    ["By keyboard", "Tab goes from button to button, Enter presses, Escape closes."],
    [
      "What is kept here",
      "The list of your uploads and the settings stay in this browser, and nowhere else.",
    ],
  ] as readonly (readonly [string, string])[],
};

export type Words = typeof en;
