// Send sends one file with go-tus: send MODE ENDPOINT FILE [URL].
//
// It prints lines of "name value": the upload's url, and the offset that it began from.
package main

import (
	"fmt"
	"os"
	"time"

	tus "github.com/eventials/go-tus"
)

// urls is go-tus's store of upload URLs, in memory.
type urls map[string]string

func (u urls) Get(fingerprint string) (string, bool) { url, found := u[fingerprint]; return url, found }
func (u urls) Set(fingerprint, url string)           { u[fingerprint] = url }
func (u urls) Delete(fingerprint string)             { delete(u, fingerprint) }
func (u urls) Close()                                {}

func main() {
	mode, endpoint, path := os.Args[1], os.Args[2], os.Args[3]
	file, err := os.Open(path)
	check(err)
	defer file.Close()

	config := tus.DefaultConfig()
	config.ChunkSize = 1024 * 1024
	config.Resume = true
	store := urls{}
	config.Store = store
	if mode == "override" {
		config.OverridePatchMethod = true
	}
	client, err := tus.NewClient(endpoint, config)
	check(err)
	upload, err := tus.NewUploadFromFile(file)
	check(err)

	switch mode {
	case "upload", "override":
		check(send(client, upload))
	case "bare": // without metadata: go-tus sends an empty Upload-Metadata
		content, err := os.ReadFile(path)
		check(err)
		upload = tus.NewUploadFromBytes(content)
		upload.Fingerprint = "bare"
		check(send(client, upload))
	case "resume":
		store.Set(upload.Fingerprint, os.Args[4])
		check(send(client, upload))
	case "retry":
		for attempt := 0; ; attempt++ {
			err = send(client, upload)
			if err == nil || attempt == 10 {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		check(err)
	default:
		check(fmt.Errorf("unknown mode %q", mode))
	}
}

func send(client *tus.Client, upload *tus.Upload) error {
	uploader, err := client.CreateOrResumeUpload(upload)
	if err != nil {
		return err
	}
	fmt.Println("url", uploader.Url())
	fmt.Println("offset", uploader.Offset())
	return uploader.Upload()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
