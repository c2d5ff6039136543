//! HTTP/2 frame by frame (RFC 9113, section 4), for peers that no library would be.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub(super) const HEADERS: u8 = 0x1;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;

/// Flags: of SETTINGS and PING that they answer one, of HEADERS that they are all, of DATA that it is the last.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

pub(super) const REFUSED_STREAM: u32 = 0x7;
pub(super) const CANCEL: u32 = 0x8;
pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A call of the method at this path, whose message is still to come.
    pub(super) fn call(stream: u32, path: &str) -> Self {
        let mut block = vec![0x83, 0x86];
        literal(&mut block, &[0x04], path);
        literal(&mut block, &[0x01], "localhost");
        literal(&mut block, &[0x0f, 0x10], "application/grpc");
        literal(&mut block, b"\x00\x02te", "trailers");
        Self::new(HEADERS, END_HEADERS, stream, block)
    }

    /// A request that names no method, which is an error of its stream.
    pub(super) fn malformed(stream: u32) -> Self {
        Self::new(HEADERS, END_HEADERS | END_STREAM, stream, [0x86])
    }

    pub(super) fn reset(stream: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, CANCEL.to_be_bytes())
    }

    pub(super) fn ping() -> Self {
        Self::new(PING, 0, 0, *b"are you?")
    }

    pub(super) fn is(&self, kind: u8, flags: u8) -> bool {
        (self.kind, self.flags & ACK) == (kind, flags)
    }

    /// The reason of a RST_STREAM or GOAWAY, which stands at this place.
    pub(super) fn reason(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// A field that is not indexed (RFC 7541, section 6.2.2).
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend(name);
    block.push(u8::try_from(value.len()).unwrap());
    block.extend(value.bytes());
}

/// What every client begins with: the words, and settings that are the default.
pub(super) fn beginning() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(Frame::new(SETTINGS, 0, 0, []).bytes());
    bytes
}

pub(super) async fn send(wire: &mut DuplexStream, frame: &Frame) {
    wire.write_all(&frame.bytes()).await.unwrap();
}

/// The next frame; `None` at the end.
pub(super) async fn next(wire: &mut DuplexStream) -> Option<Frame> {
    let mut head = [0; 9];
    wire.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    wire.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}

/// The next frame of this kind.
pub(super) async fn next_of(wire: &mut DuplexStream, kind: u8, flags: u8) -> Frame {
    loop {
        let frame = next(wire).await.expect("a frame comes before the end");
        if frame.is(kind, flags) {
            return frame;
        }
    }
}
