//! Sends one file with tus_client: `send MODE ENDPOINT FILE [URL]`.
//!
//! Prints lines of `name value`: the upload's url, and the offset that it began from.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::path::Path;

use tus_client::Client;

const CHUNK: usize = 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let (mode, endpoint, file) = (args[1].as_str(), args[2].as_str(), Path::new(&args[3]));
    let http = reqwest::Client::new();
    let client = match mode {
        "override" => Client::with_method_override(http),
        _ => Client::new(http),
    };
    match mode {
        "upload" | "override" => {
            let name = file.file_name().ok_or("no name")?.to_string_lossy().into_owned();
            let metadata = HashMap::from([("filename".to_owned(), name)]);
            let url = client.create_with_metadata(endpoint, file, metadata)?;
            send(&client, &url, file)
        }
        "resume" => send(&client, &args[4], file),
        "delete" => Ok(client.delete(&args[4])?),
        _ => Err(format!("unknown mode {mode:?}").into()),
    }
}

fn send(client: &Client, url: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    println!("url {url}");
    println!("offset {}", client.get_info(url)?.bytes_uploaded);
    client.upload_with_chunk_size(url, file, CHUNK)?;
    Ok(())
}
