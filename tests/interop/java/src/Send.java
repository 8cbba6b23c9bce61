import io.tus.java.client.ProtocolException;
import io.tus.java.client.TusClient;
import io.tus.java.client.TusExecutor;
import io.tus.java.client.TusURLMemoryStore;
import io.tus.java.client.TusUpload;
import io.tus.java.client.TusUploader;
import java.io.File;
import java.io.IOException;
import java.net.URL;
import java.util.Map;

/**
 * Sends one file with tus-java-client: {@code Send MODE ENDPOINT FILE [URL]}.
 *
 * <p>Prints lines of "name value": the upload's url, and the offset that it began from.
 */
final class Send {
    private static final int PIECE = 256 * 1024;

    private final TusClient client = new TusClient();
    private final TusUpload upload;

    private Send(String endpoint, String file) throws IOException {
        client.setUploadCreationURL(new URL(endpoint));
        client.enableResuming(new TusURLMemoryStore());
        upload = new TusUpload(new File(file));
        upload.setMetadata(Map.of("filename", upload.getMetadata().get("filename")));
    }

    public static void main(String[] args) throws IOException, ProtocolException {
        Send send = new Send(args[1], args[2]);
        switch (args[0]) {
            case "upload" -> send.finish(send.client.createUpload(send.upload), 10 * 1024 * 1024);
            case "chunks" -> send.finish(send.client.createUpload(send.upload), 1024 * 1024);
            case "resume" -> send.finish(
                    send.client.beginOrResumeUploadFromURL(send.upload, new URL(args[3])),
                    10 * 1024 * 1024);
            case "retry" -> send.withRetries(args[2]);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private void finish(TusUploader uploader, int bytesPerRequest)
            throws IOException, ProtocolException {
        System.out.println("url " + uploader.getUploadURL());
        System.out.println("offset " + uploader.getOffset());
        uploader.setChunkSize(PIECE);
        uploader.setRequestPayloadSize(bytesPerRequest);
        while (uploader.uploadChunk() > -1) {
            continue;
        }
        uploader.finish();
    }

    private void withRetries(String file) throws IOException, ProtocolException {
        TusExecutor executor = new TusExecutor() {
            @Override
            protected void makeAttempt() throws ProtocolException, IOException {
                upload.setInputStream(new java.io.FileInputStream(file));
                finish(client.resumeOrCreateUpload(upload), 10 * 1024 * 1024);
            }
        };
        executor.setDelays(new int[] {100, 200, 400, 800, 1000});
        executor.makeAttempts();
    }
}
