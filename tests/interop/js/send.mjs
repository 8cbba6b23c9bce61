// Sends one file with tus-js-client, as the job (JSON, the first argument) says, and prints one
// line of JSON: how it ended, and every request that was answered on the way.
//
// On standard input it takes "abort" and "terminate" while the upload runs.
import fs from 'node:fs'
import readline from 'node:readline'
import { PassThrough } from 'node:stream'

const job = JSON.parse(process.argv[2])

async function library(version) {
  if (version === 4) return import('tus-js-client-4').then((module) => module.default ?? module)
  const [main, storage] = await Promise.all([
    import('tus-js-client-5'),
    import('tus-js-client-5/node/FileUrlStorage'),
  ])
  return { ...main, ...storage }
}

// "file": has a path, so it has a fingerprint, and each request reads its own part.
// "buffer": all of it in memory. "stream": its length is not known before its end.
function source() {
  if (job.source === 'buffer') return fs.readFileSync(job.file)
  const file = fs.createReadStream(job.file)
  return job.source === 'stream' ? file.pipe(new PassThrough()) : file
}

const { Upload, FileUrlStorage } = await library(job.version)
const report = { outcome: null, url: null, error: null, found: 0, requests: [] }
const commands = readline.createInterface({ input: process.stdin })

function finish(outcome) {
  commands.close()
  console.log(JSON.stringify({ ...report, outcome, url: upload.url }))
  process.exit(0)
}

const upload = new Upload(source(), {
  endpoint: job.endpoint,
  retryDelays: [0, 200, 400, 800, 1000, 1000, 1000, 1000, 1000, 1000],
  ...(job.storage ? { urlStorage: new FileUrlStorage(job.storage) } : {}),
  ...job.options,
  onAfterResponse(request, response) {
    report.requests.push({
      method: request.getMethod(),
      override: request.getHeader('X-HTTP-Method-Override') ?? null,
      url: request.getURL(),
      status: response.getStatus(),
      offset: response.getHeader('Upload-Offset') ?? null,
    })
  },
  onError(error) {
    report.error = String(error)
    finish('error')
  },
  onSuccess() {
    if (job.terminateWhenDone) {
      upload.abort(true).then(() => finish('terminated'), fail)
    } else {
      finish('success')
    }
  },
})

function fail(error) {
  report.error = String(error)
  finish('error')
}

commands.on('line', (line) => {
  if (line === 'abort') upload.abort().then(() => finish('aborted'), fail)
  if (line === 'terminate') upload.abort(true).then(() => finish('terminated'), fail)
})

if (job.resume) {
  const previous = await upload.findPreviousUploads()
  report.found = previous.length
  if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0])
}
upload.start()
