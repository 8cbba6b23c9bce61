/** What the page says, in German. */

import type { Words } from "./en.ts";

export const de: Words = {
  locale: "de",
  title: "Dateien hochladen",
  intro:
    "Dateien oder Ordner irgendwo auf diese Seite ziehen. Was abbricht, geht dort weiter, wo es war.",
  language: "Sprache",
  help: "Hilfe",
  close: "Schließen",

  settings: "Einstellungen",
  chunks: "Größe einer Anfrage",
  chunksOne: "Die ganze Datei",
  chunksAuto: "Stücke nach Bedarf",
  chunksFixed: (size) => `Stücke von ${size}`,
  chunksSay:
    "Stücke helfen bei Proxys, die Anfragen begrenzen, und bei Leitungen, die Daten beschädigen: " +
    "jedes hat eine Prüfsumme.",
  parallel: "Teile gleichzeitig",
  parallelSay: (size) => `Einer Datei über ${size}. Hilft auf schnellen, weiten Leitungen.`,
  checksum: "Prüfsumme jedes Stücks",
  checksumNone: "Keine",
  checksumSay: "Ein Stück, das falsch ankommt, wird von selbst noch einmal gesendet.",
  begin: "Beginnen, sobald eine Datei gewählt ist",
  beginSay: "Sonst bleibt Zeit, Bilder zu bearbeiten und alles anzusehen.",

  parts: "Stücke",
  partsNothing: "Nichts ist unterwegs.",
  partsStored: "war schon dort",
  partsAcknowledged: "bestätigt",
  partsInFlight: "unterwegs",
  partsMissing: "noch hier",
  partsLine: (acknowledged, stored, flying, size) =>
    `${acknowledged} bestätigt, ${stored} schon dort, ${flying} unterwegs, von ${size}`,
  partsRequests: (count, chunk) =>
    `${count} ${count === 1 ? "Anfrage" : "Anfragen"} beantwortet; ${chunk}`,
  partsNow: (size) => `Stücke jetzt von ${size}`,
  partsWhole: "keine Stücke",
  partsAgain: (count, at) =>
    count === 1 ? `einmal wiederholt, bei ${at}` : `${count}-mal wiederholt, zuletzt bei ${at}`,

  history: "Was dieser Browser hochgeladen hat",
  historyNothing: "Noch nichts.",
  historyFinished: "fertig",
  historyUnderWay: "unfertig",
  historyExpires: (when) => `bleibt bis ${when}`,
  historyGoOn: "Dieselbe Datei noch einmal wählen, um fortzufahren.",
  historyForget: "Aus der Liste nehmen",
  historyDelete: "Auf dem Server löschen",
  historyDeleteSure: (name) =>
    `${name} auf dem Server löschen? Das lässt sich nicht rückgängig machen.`,
  namedButton: (button, name) => `${button}: ${name}`,
  cancel: "Abbrechen",

  server: "Uploads auf dem Server",
  serverSoFar: (offset, size) => `${offset} von ${size}`,
  serverProgress: (name) => `Fortschritt von ${name}`,
  serverPause: "Anhalten",
  serverResume: "Fortsetzen",
  serverDelete: "Löschen",
  serverLimit: "Höchstens, MB/s",
  serverNoLimit: "kein Limit",
  serverMore: "Ältere zeigen",
  perSecond: (size) => `${size}/s`,
  states: {
    receiving: "unfertig",
    paused: "angehalten",
    finishing: "wird fertiggestellt",
    complete: "fertig",
    failed: "abgelehnt",
    terminated: "gelöscht",
    expired: "abgelaufen",
  },

  operator: "Was der Server zu tun hat",
  operatorSpeed: "Empfangen je Sekunde",
  operatorMemory: "Arbeitsspeicher",
  operatorOpen: "Unfertige Uploads",
  operatorOpenActive: (open, active) => `${open}, davon ${active} in Bewegung`,
  operatorReceived: "Empfangen seit dem Start",
  operatorFinished: "Fertig geworden seit dem Start",
  operatorDisk: "Frei auf der Festplatte",
  operatorSince: "Gestartet",
  operatorVersion: "Version",
  operatorWorkers: (version, workers) => `${version}, ${workers} Worker`,
  operatorErrors: "Abgelehnte Anfragen seit dem Start",
  operatorNoErrors: "Keine.",

  signIn: "Anmelden",
  signInToken: "Zugangstoken",
  signInSay:
    "Dieser Server nimmt Dateien nur von denen an, die er kennt. Der Betreiber hat dafür ein Token.",
  signInWrong: "Der Server kennt dieses Token nicht, oder nicht mehr.",
  signedIn: "Angemeldet mit einem Token; es wird vergessen, wenn dieser Tab geschlossen wird.",
  signOut: "Vergessen",

  offline: "Das Netz ist weg. Die Uploads gehen von selbst weiter, wenn es wieder da ist.",
  online: "Das Netz ist wieder da.",
  problems: "Meldungen",
  alreadyThere: (name) => `${name} ist schon auf dem Server; nichts wurde noch einmal gesendet.`,
  begunAgain: (name) =>
    `Der Server hatte den Anfang von ${name} nicht mehr (vielleicht abgelaufen); ` +
    "die Datei wird neu gesendet.",
  trying: "Es wird von selbst wieder versucht.",
  restored: "Abgebrochene Uploads gehen weiter.",
  chooseAgain: (name) =>
    `${name} bitte noch einmal wählen: Die Datei war zu groß, um sie über einen Neustart zu behalten.`,

  errorNetwork: "Der Server antwortet nicht. Bitte das Netz prüfen, und ob der Server läuft.",
  errorUnreadable:
    "Die Datei ist nicht mehr lesbar: Sie wurde geändert, verschoben oder entfernt. " +
    "Bitte noch einmal wählen.",
  errorDamaged:
    "Ein Stück kam jedes Mal beschädigt an. Etwas zwischen hier und dem Server verändert Daten; " +
    "bitte ein anderes Netz versuchen, oder Stücke anderer Größe.",
  errorPaused: "Dieser Upload wurde auf dem Server angehalten und geht weiter, wenn er es dort soll.",
  errorUnknown:
    "Der Server weiß nicht (mehr), wer Sie sind. Bitte anmelden; dann geht es weiter.",
  errorAuthority: "Der Server erlaubt das nicht. Bitte den Betreiber um Zugang bitten.",
  errorTooLarge:
    "Die Datei ist größer, als der Server annimmt. Bitte den Betreiber fragen, oder weniger senden.",
  errorProxyTooLarge:
    "Ein Server auf dem Weg nimmt nicht so viel auf einmal an. In den Einstellungen Stücke wählen, " +
    "dann wiederholen.",
  errorGone: "Der Server hat diesen Upload nicht mehr. Wiederholen sendet ihn von vorn.",
  errorFull:
    "Die Festplatte des Servers ist voll. Was ankam, bleibt; bitte dem Betreiber Bescheid geben.",
  errorBusy: "Der Server ist mit diesem oder mit anderen Uploads beschäftigt.",
  errorServer: (status) =>
    `Der Server hatte einen eigenen Fehler (${status}). Was ankam, bleibt; später wiederholen.`,
  errorRefused: (status, said) =>
    `Der Server hat die Datei abgelehnt (${status})${said ? `: ${said}` : ""}. ` +
    "Bitte den Betreiber fragen, oder die Seite neu laden und wiederholen.",
  errorHere: (says) => `In dieser Seite ging etwas schief: ${says}. Bitte neu laden; es geht weiter.`,
  errorPrefix: (name, says) => `${name}: ${says}`,
  uppy: {
    exceedsSize:
      "%{file} ist größer, als der Server annimmt (%{size}). Bitte den Betreiber fragen, oder weniger " +
      "senden.",
    additionalRestrictionsFailed: "%{count} weitere Dateien wurden nicht angenommen",
    unnamed: "Ohne Namen",
    error: "Fehler",
    uploadFailed: "Fehlgeschlagen",
    retry: "Wiederholen",
    showErrorDetails: "Einzelheiten des Fehlers zeigen",
    dataUploadedOfUnknown: "%{complete} von unbekannt viel",
    dropPasteImportBoth:
      "Dateien hier ablegen/einfügen, %{browseFiles}, %{browseFolders} oder von folgenden Quellen " +
      "importieren:",
  },
  endpointMissing: "Dieser Uploader hat kein Ziel: Das Attribut „endpoint“ fehlt.",

  helpTitle: "Was diese Seite kann",
  helpLines: [
    ["Senden", "Dateien oder Ordner ziehen, auswählen, oder ein Foto aufnehmen."],
    ["Anhalten und fortsetzen", "Jede Datei hat dafür einen Knopf, die Leiste unten einen für alle."],
    [
      "Nach Neuladen oder Absturz",
      "Die Seite im selben Browser wieder öffnen: Uploads gehen von dem Byte weiter, wo sie waren. " +
        "Dateien über 512 MB bitte noch einmal wählen; auch sie gehen dort weiter.",
    ],
    ["Ohne Netz", "Uploads warten und gehen von selbst weiter."],
    ["Abbrechen", "Das Kreuz an einer Datei entfernt sie, auch was der Server davon hat."],
    [
      "Stücke und Prüfsummen",
      "Jedes Stück wird geprüft, wenn es ankommt, und noch einmal gesendet, wenn es beschädigt war.",
    ],
    [
      "Was der Server hat",
      "Die beiden Listen am Ende, einmal aufgeklappt: alle Uploads dort, mit Knöpfen zum Anhalten, " +
        "Fortsetzen und Löschen und einer Grenze für das Tempo, und was der Server zu tun hat.",
    ],
    ["Mit der Tastatur", "Tab geht von Knopf zu Knopf, Enter drückt, Escape schließt."],
    [
      "Was hier bleibt",
      "Die Liste der Uploads und die Einstellungen bleiben in diesem Browser, sonst nirgends.",
    ],
  ],
};
