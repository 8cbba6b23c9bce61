// Send sends one file with tusgo: send MODE ENDPOINT FILE [URL].
//
// It prints lines of "name value": the upload's url, the offset that it began from, and when the
// upload expires (seconds since 1970), if the server says so.
package main

import (
	"bytes"
	_ "crypto/sha1"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/bdragon300/tusgo"
)

const mib = 1024 * 1024

type sender struct {
	client  *tusgo.Client
	content []byte
	meta    map[string]string
	target  string
}

func main() {
	endpoint, err := url.Parse(os.Args[2])
	check(err)
	content, err := os.ReadFile(os.Args[3])
	check(err)
	send := sender{
		client:  tusgo.NewClient(http.DefaultClient, endpoint),
		content: content,
		meta:    map[string]string{"filename": filepath.Base(os.Args[3])},
	}
	if len(os.Args) > 4 {
		send.target = os.Args[4]
	}
	modes := map[string]func(){
		"upload":   func() { send.stream(send.create(false), false) },
		"checksum": func() { send.withHeader(send.create(false)) },
		"trailer":  func() { send.withTrailer(send.create(false)) },
		"deferred": send.deferred,
		"resume":   send.resume,
		"creation": send.withCreation,
		"parts":    send.inParts,
		"delete":   send.remove,
	}
	run, known := modes[os.Args[1]]
	if !known {
		check(fmt.Errorf("unknown mode %q", os.Args[1]))
	}
	run()
}

func (s sender) create(partial bool) *tusgo.Upload {
	upload := &tusgo.Upload{}
	_, err := s.client.CreateUpload(upload, int64(len(s.content)), partial, s.meta)
	check(err)
	return upload
}

// stream sends what is missing, in chunks.
func (s sender) stream(upload *tusgo.Upload, tellSize bool) {
	stream := tusgo.NewUploadStream(s.client, upload)
	stream.ChunkSize = mib
	stream.SetUploadSize = tellSize
	s.drain(stream, upload)
}

// withHeader sends a sha1 with every chunk.
func (s sender) withHeader(upload *tusgo.Upload) {
	stream := tusgo.NewUploadStream(s.client, upload).WithChecksumAlgorithm("sha1")
	stream.ChunkSize = mib
	s.drain(stream, upload)
}

// withTrailer sends everything in one chunked request, and its sha1 after it.
func (s sender) withTrailer(upload *tusgo.Upload) {
	stream := tusgo.NewUploadStream(s.client, upload).WithChecksumAlgorithm("sha1")
	stream.ChunkSize = tusgo.NoChunked
	n, err := stream.ReadFrom(bytes.NewReader(s.content))
	check(err)
	if n != int64(len(s.content)) {
		check(io.ErrShortWrite)
	}
	report(upload, 0)
}

func (s sender) drain(stream *tusgo.UploadStream, upload *tusgo.Upload) {
	began := upload.RemoteOffset
	_, err := stream.ReadFrom(bytes.NewReader(s.content[began:]))
	check(err)
	report(upload, began)
}

func (s sender) deferred() {
	upload := &tusgo.Upload{}
	_, err := s.client.CreateUpload(upload, tusgo.SizeUnknown, false, s.meta)
	check(err)
	upload.RemoteSize = int64(len(s.content))
	s.stream(upload, true)
}

func (s sender) resume() {
	upload := &tusgo.Upload{}
	_, err := s.client.GetUpload(upload, s.target)
	check(err)
	s.stream(upload, false)
}

func (s sender) withCreation() {
	upload := &tusgo.Upload{}
	first := s.content[:mib]
	_, _, err := s.client.CreateUploadWithData(upload, first, int64(len(s.content)), false, s.meta)
	check(err)
	s.stream(upload, false)
}

// inParts sends two halves as partial uploads and concatenates them.
func (s sender) inParts() {
	half := len(s.content) / 2
	var parts []tusgo.Upload
	for _, part := range [][]byte{s.content[:half], s.content[half:]} {
		one := sender{client: s.client, content: part, meta: nil}
		upload := one.create(true)
		one.stream(upload, false)
		parts = append(parts, *upload)
	}
	final := &tusgo.Upload{}
	_, err := s.client.ConcatenateUploads(final, parts, s.meta)
	check(err)
	report(final, 0)
}

func (s sender) remove() {
	_, err := s.client.DeleteUpload(tusgo.Upload{Location: s.target})
	check(err)
}

func report(upload *tusgo.Upload, began int64) {
	fmt.Println("url", upload.Location)
	fmt.Println("offset", began)
	if upload.UploadExpired != nil {
		fmt.Println("expires", upload.UploadExpired.Unix())
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
