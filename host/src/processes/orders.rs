//! What waits to be sent to a runner process.

use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use tq_core::Epoch;
use tq_proto::v1::Assignment;

use super::forms::Form;
use super::tcp;
use super::wire::{Answer, Answered, LoadForm, Order, Returned, Stop, put_order, put_run};
use crate::runner::StopReason;

/// Orders are gathered into writes of about so many bytes.
const WRITE_BYTES: usize = 64 << 10;
/// A compiled form is read so much at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// One thing to send.
#[derive(Debug)]
pub(super) enum Item {
    /// Load a component.
    Load(Arc<Form>),
    /// Run an attempt.
    Run(Arc<Assignment>),
    /// Stop an attempt.
    Stop(Epoch, StopReason),
    /// End what waits.
    HandBack,
    /// Say what became of a request.
    Answer(u64, Answered),
    /// Say what came of a call.
    Return(Returned),
    /// Say what became of a look-up or a connection.
    Tcp(tcp::Answer),
}

/// Orders for one process. As many wait as attempts are sent to it, with a few of each: that is bounded by whoever sends. What is
/// said about connections has no end of its own, so that what waits of it is counted.
#[derive(Debug, Default)]
pub(super) struct Orders {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Item>,
    /// What is said about connections, in bytes.
    tcp_bytes: usize,
    is_closed: bool,
}

impl Orders {
    pub(super) fn push(&self, item: Item) {
        let mut queue = self.lock();
        if let Item::Tcp(answer) = &item {
            queue.tcp_bytes += size_of::<Item>() + answer.len();
        }
        queue.items.push(item);
        drop(queue);
        self.wake.notify_one();
    }

    /// How much about connections waits for a process that does not read it, in bytes.
    pub(super) fn tcp_bytes(&self) -> usize {
        self.lock().tcp_bytes
    }

    /// Nothing comes any more: when all is sent, the process is to end.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Sends everything as it comes, until the orders are closed or the process reads no more.
    pub(super) async fn send(&self, mut pipe: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut buffer = BytesMut::with_capacity(2 * WRITE_BYTES);
        while let Some(items) = self.take().await {
            for item in items {
                match item {
                    Item::Run(assignment) => put_run(&assignment, &mut buffer),
                    Item::Stop(epoch, why) => {
                        put_order(Order::Stop(Stop::new(epoch, why)), &mut buffer);
                    }
                    Item::HandBack => put_order(Order::HandBack(()), &mut buffer),
                    Item::Answer(id, answered) => {
                        let answered = Some(answered);
                        put_order(Order::Answer(Answer { id, answered }), &mut buffer);
                    }
                    Item::Return(returned) => put_order(Order::Return(returned), &mut buffer),
                    Item::Tcp(answer) => put_order(Order::Tcp(answer), &mut buffer),
                    Item::Load(form) => {
                        let announced = LoadForm {
                            digest: Bytes::copy_from_slice(&form.digest.0),
                            size_bytes: form.size_bytes,
                        };
                        put_order(Order::Load(announced), &mut buffer);
                        pipe.write_all(&buffer).await?;
                        buffer.clear();
                        send_form(&mut pipe, form).await?;
                    }
                }
                if buffer.len() >= WRITE_BYTES {
                    pipe.write_all(&buffer).await?;
                    buffer.clear();
                }
            }
            pipe.write_all(&buffer).await?;
            // One large payload is not kept room for.
            if buffer.capacity() > 16 * WRITE_BYTES {
                buffer = BytesMut::with_capacity(2 * WRITE_BYTES);
            }
            buffer.clear();
        }
        Ok(())
    }

    /// Waits for something to send; nothing when all was sent and nothing will come.
    async fn take(&self) -> Option<Vec<Item>> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.items.is_empty() {
                    queue.tcp_bytes = 0;
                    return Some(std::mem::take(&mut queue.items));
                }
                if queue.is_closed {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the bytes of a compiled form.
async fn send_form(pipe: &mut (impl AsyncWrite + Unpin), form: Arc<Form>) -> std::io::Result<()> {
    let mut at = 0;
    while at < form.size_bytes {
        let form = Arc::clone(&form);
        // It may have to come from the disk.
        let read = tokio::task::spawn_blocking(move || {
            let len = CHUNK_BYTES.min(form.size_bytes - at);
            let mut chunk = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
            form.file.read_exact_at(&mut chunk, at)?;
            Ok::<_, std::io::Error>(chunk)
        });
        let chunk = read.await.map_err(std::io::Error::other)??;
        pipe.write_all(&chunk).await?;
        at += chunk.len() as u64;
    }
    Ok(())
}
