/** The styles of the uploader, for its shadow root: a page that it is in has its own. */

import core from "@uppy/core/css/style.min.css?inline";
import dashboard from "@uppy/dashboard/css/style.min.css?inline";
import editor from "@uppy/image-editor/css/style.min.css?inline";
import webcam from "@uppy/webcam/css/style.min.css?inline";
import own from "./element.css?inline";

export async function sheets(): Promise<CSSStyleSheet[]> {
  return Promise.all(
    [core, dashboard, editor, webcam, own].map((text) => new CSSStyleSheet().replace(text)),
  );
}
