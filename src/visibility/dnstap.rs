//! The sink of dnstap: frames in a Unix socket on which a reader listens.
//!
//! ```text
//!        .---- failed, or the reader wrote nonsense: pause, then twice as long ----.
//!        v                                                                         |
//! connect --> READY --> wait for ACCEPT --> START --> frames ... --> STOP --> wait for FINISH
//! ```
//!
//! While there is no reader, samples are dropped. A reader that reads too slowly for [`PATIENCE`] is left. One that is
//! gone again within [`PROVEN`] changes nothing: the pause goes on to grow, and its return is told only once it has stayed.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::events::{Events, tell};
use crate::metrics::TapSeries;
use crate::tap::Sample;
use crate::visibility::frames::{ControlFrame, FrameWriter, MOST_CONTROL};
use crate::visibility::writer::SampleSink;

/// How long one connect, read or write may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the reader may take to confirm the end.
const END_PATIENCE: Duration = Duration::from_millis(500);
/// The pause after the first failed connection; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A reader is there to stay after so long.
const PROVEN: Duration = Duration::from_secs(30);
/// Frames are written once they have this many bytes, or when no more samples wait.
const WRITE_AT: usize = 64 << 10;

pub(super) struct DnstapSink {
    path: PathBuf,
    writer: FrameWriter,
    series: Arc<TapSeries>,
    events: Events,
    frames: Vec<u8>,
    /// The number of samples in `frames`.
    count: u64,
    reader: Option<TapConnection>,
    again_at: Instant,
    pause: Duration,
    /// Samples since the reader was last told to be there.
    dropped: u64,
    /// The state that was told last.
    told: Option<ReaderState>,
}

/// A connected reader.
struct TapConnection {
    stream: Socket,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReaderState {
    Present,
    Absent,
    /// It came, and was gone again within [`PROVEN`].
    Restless,
}

impl DnstapSink {
    pub(super) fn new(path: PathBuf, identity: &str, series: Arc<TapSeries>, events: Events) -> Self {
        Self {
            path,
            writer: FrameWriter::new(identity),
            series,
            events,
            frames: Vec::with_capacity(2 * WRITE_AT),
            count: 0,
            reader: None,
            again_at: Instant::now(),
            pause: FIRST_PAUSE,
            dropped: 0,
            told: None,
        }
    }

    /// Connects if there is no reader and the pause is over.
    fn connect(&mut self) {
        if self.reader.is_some() || Instant::now() < self.again_at {
            return;
        }
        match begin(&self.path) {
            Ok(stream) => {
                self.reader = Some(TapConnection { stream, since: Instant::now() });
                if self.told != Some(ReaderState::Restless) {
                    self.tell_present();
                }
            }
            Err(error) => {
                if !matches!(self.told, Some(ReaderState::Absent | ReaderState::Restless)) {
                    let (socket, error) = (self.path.display().to_string(), in_words(&error));
                    tell!(self.events.now(), warn, Server, socket, %error,
                        "dnstap: no reader takes the messages; queries are answered, samples are dropped, and steerd tries \
                         again");
                }
                self.told.get_or_insert(ReaderState::Absent);
                self.wait();
            }
        }
    }

    fn wait(&mut self) {
        self.again_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn tell_present(&mut self) {
        let (socket, dropped) = (self.path.display().to_string(), std::mem::take(&mut self.dropped));
        tell!(self.events.now(), info, Server, socket, dropped, "dnstap: the reader is connected");
        self.told = Some(ReaderState::Present);
    }

    /// Notices that a restless reader has stayed.
    fn prove(&mut self) {
        if self.reader.as_ref().is_some_and(|reader| reader.since.elapsed() >= PROVEN) {
            self.pause = FIRST_PAUSE;
            if self.told == Some(ReaderState::Restless) {
                self.tell_present();
            }
        }
    }

    /// Leaves a reader after an error.
    fn leave(&mut self, error: &io::Error) {
        self.prove();
        if self.told != Some(ReaderState::Restless) {
            let (socket, error) = (self.path.display().to_string(), in_words(error));
            tell!(self.events.now(), warn, Server, socket, %error,
                "dnstap: the reader is gone or too slow; queries are answered, samples are dropped, and steerd tries again");
        }
        let has_stayed = self.reader.take().is_some_and(|reader| reader.since.elapsed() >= PROVEN);
        self.told = Some(if has_stayed { ReaderState::Absent } else { ReaderState::Restless });
        self.wait();
    }

    fn drop_all(&mut self) {
        self.series.drop_samples(self.count);
        self.dropped += self.count;
        self.frames.clear();
        self.count = 0;
    }
}

impl SampleSink for DnstapSink {
    fn take(&mut self, sample: &Sample) {
        self.count += 1;
        if self.reader.is_some() {
            self.writer.append(&mut self.frames, sample);
        }
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= WRITE_AT
    }

    fn flush(&mut self) {
        self.connect();
        self.prove();
        let Some(TapConnection { stream, .. }) = &mut self.reader else { return self.drop_all() };
        // A sample that came before the reader has no frame.
        if self.frames.is_empty() {
            return self.drop_all();
        }
        match stream.write_all(&self.frames) {
            Ok(()) => {
                self.series.write_samples(self.count);
                self.frames.clear();
                self.count = 0;
            }
            Err(error) => {
                self.leave(&error);
                self.drop_all();
            }
        }
    }

    fn close(&mut self) {
        if let Some(TapConnection { stream, .. }) = &mut self.reader {
            // The reader may be gone already.
            let _ = end(stream);
        }
    }
}

/// The system's words for a time limit do not say that it is one.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("it did nothing for {PATIENCE:?}"),
        io::ErrorKind::UnexpectedEof => "it has closed the connection".into(),
        _ => error.to_string(),
    }
}

/// Connects to the reader, and agrees with it on the content.
fn begin(path: &Path) -> io::Result<Socket> {
    let mut stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On a Unix socket, this limits `connect` too, which waits while the reader accepts nothing.
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.connect(&SockAddr::unix(path)?)?;
    stream.write_all(&ControlFrame::Ready.frame())?;
    expect(&mut stream, ControlFrame::Accept)?;
    stream.write_all(&ControlFrame::Start.frame())?;
    Ok(stream)
}

fn end(stream: &mut Socket) -> io::Result<()> {
    stream.set_write_timeout(Some(END_PATIENCE))?;
    stream.set_read_timeout(Some(END_PATIENCE))?;
    stream.write_all(&ControlFrame::Stop.frame())?;
    expect(stream, ControlFrame::Finish)
}

/// Reads one control frame.
fn expect(stream: &mut Socket, wanted: ControlFrame) -> io::Result<()> {
    let nonsense = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let deadline = Instant::now() + PATIENCE;
    let mut read = |room: &mut [u8]| -> io::Result<()> {
        let mut filled = 0;
        // A reader that sends a byte now and then must not hold this thread for longer.
        while filled < room.len() {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match stream.read(room.get_mut(filled..).unwrap_or_default())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => filled += more,
            }
        }
        Ok(())
    };
    let mut head = [0; 8];
    read(&mut head)?;
    let [e0, e1, e2, e3, l0, l1, l2, l3] = head;
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if [e0, e1, e2, e3] != [0; 4] || length > MOST_CONTROL {
        return Err(nonsense("the reader does not speak Frame Streams"));
    }
    let mut body = vec![0; length];
    read(&mut body)?;
    if !wanted.is_in(&body) {
        return Err(nonsense("the reader does not accept protobuf:dnstap.Dnstap in Frame Streams"));
    }
    Ok(())
}
