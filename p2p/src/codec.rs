//! How messages lie on a stream: four bytes of length, then as many bytes. A length beyond the bound ends the stream
//! before anything is read.

use std::io;

use futures::prelude::*;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

/// Bytes that are read before more room is made for what was announced.
const PIECE: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    pub(crate) request: usize,
    pub(crate) answer: usize,
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        let told = format!("{length} bytes are announced, the limit is {limit}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, told));
    }
    // Grows with what arrives: announcing much costs nothing here.
    let mut bytes = Vec::with_capacity(length.min(PIECE));
    io.take(length as u64).read_to_end(&mut bytes).await?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn write<T>(io: &mut T, bytes: &[u8], limit: usize) -> io::Result<()>
where
    T: AsyncWrite + Unpin + Send,
{
    let length = u32::try_from(bytes.len()).ok();
    let Some(length) = length.filter(|_| bytes.len() <= limit) else {
        let told = format!("{} bytes are to be sent, the limit is {limit}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
    };
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.close().await
}

impl Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.request).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.answer).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes, self.request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes, self.answer).await
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_and_nothing_beyond_the_bound() {
        let mut sent = Cursor::new(Vec::new());
        write(&mut sent, b"tea", 3).await.unwrap();
        let sent = sent.into_inner();
        let read_with = |bytes: Vec<u8>, limit| async move {
            read(&mut Cursor::new(bytes), limit)
                .await
                .map_err(|e| e.kind())
        };
        assert_eq!(read_with(sent.clone(), 3).await.unwrap(), b"tea");
        let too_long = read_with(sent.clone(), 2).await;
        assert_eq!(too_long, Err(io::ErrorKind::InvalidData));
        let short = read_with(sent[..6].to_vec(), 3).await;
        assert_eq!(short, Err(io::ErrorKind::UnexpectedEof));
        let refused = write(&mut Cursor::new(Vec::new()), b"tea", 2).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
