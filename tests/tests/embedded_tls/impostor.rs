//! A server that has no key which the device trusts, and says in the handshake whatever might help it.

use protocol_core::alpn::MAX_RECORD;
use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    digest::{SHA256, digest},
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What stands before the client's key share: the group `secp256r1`, and 65 bytes.
const SHARE: [u8; 4] = [0x00, 0x17, 0x00, 0x41];

/// Handshake messages.
pub(crate) const CERTIFICATE: u8 = 11;
pub(crate) const CERTIFICATE_VERIFY: u8 = 15;

/// An end of the wire that plays the server.
pub(crate) struct Impostor {
    wire: DuplexStream,
    /// All messages of the handshake so far.
    transcript: Vec<u8>,
    secret: Vec<u8>,
    records: u64,
}

impl Impostor {
    /// Answers the client's hello, as any server would, but for what `damage` does to the answer.
    pub(crate) async fn greet(mut wire: DuplexStream, damage: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut header = [0; 5];
        wire.read_exact(&mut header).await.unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        wire.read_exact(&mut hello).await.unwrap();
        let at = hello.windows(4).position(|bytes| bytes == SHARE).unwrap() + 4;
        let theirs = UnparsedPublicKey::new(&ECDH_P256, hello[at..at + 65].to_vec());

        let ours = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let extensions = [
            &[0x00, 0x2b, 0x00, 0x02, 0x03, 0x04][..],
            &[0x00, 0x33, 0x00, 0x45, 0x00, 0x17, 0x00, 0x41],
            ours.compute_public_key().unwrap().as_ref(),
        ]
        .concat();
        let before = [&[0x03, 0x03][..], &[7; 32], &[0, 0x13, 0x01, 0, 0, extensions.len() as u8]].concat();
        let mut answer = message(2, &[before, extensions].concat());
        damage(&mut answer);
        wire.write_all(&record(22, &answer)).await.unwrap();

        let transcript = [hello, answer].concat();
        let early = hmac(&[0; 32], &[0; 32]);
        let shared =
            agree_ephemeral(ours, &theirs, |shared| hmac(&derive(&early, "derived", &hash(&[])), shared));
        let secret = derive(&shared.unwrap(), "s hs traffic", &hash(&transcript));
        Self { wire, transcript, secret, records: 0 }
    }

    /// Says these messages in one record, encrypted; the last may be cut.
    pub(crate) async fn say(&mut self, messages: &[u8]) {
        assert!(messages.len() <= MAX_RECORD);
        self.transcript.extend_from_slice(messages);
        let mut content = [messages, &[22]].concat();
        let key = UnboundKey::new(&AES_128_GCM, &expand(&self.secret, "key", &[], 16)).unwrap();
        let mut nonce: [u8; 12] = expand(&self.secret, "iv", &[], 12).try_into().unwrap();
        nonce.iter_mut().rev().zip(self.records.to_le_bytes()).for_each(|(byte, number)| *byte ^= number);
        self.records += 1;
        let length = (content.len() + 16) as u16;
        let header = [&[23, 3, 3][..], &length.to_be_bytes()].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        LessSafeKey::new(key).seal_in_place_append_tag(nonce, Aad::from(&header), &mut content).unwrap();
        // A device that has found it out is gone.
        let _ = self.wire.write_all(&[header, content].concat()).await;
    }

    /// The message that ends a handshake: it proves that the keys are those of the hellos, and nothing else.
    pub(crate) fn finished(&self, before: &[u8]) -> Vec<u8> {
        let key = expand(&self.secret, "finished", &[], 32);
        message(20, &hmac(&key, &hash(&[&self.transcript, before].concat())))
    }
}

/// A handshake message.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    [&[kind][..], &length, body].concat()
}

/// The extensions that a server encrypts: none.
pub(crate) fn no_extensions() -> Vec<u8> {
    message(8, &[0, 0])
}

/// The certificate message with this certificate.
pub(crate) fn certificate(der: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (der.len() as u32).to_be_bytes();
    let entry = [&length[..], der, &[0, 0]].concat();
    let [_, length @ ..] = (entry.len() as u32).to_be_bytes();
    message(CERTIFICATE, &[&[0][..], &length, &entry].concat())
}

/// The message with this signature, by ECDSA with P-256.
pub(crate) fn certificate_verify(signature: &[u8]) -> Vec<u8> {
    let length = (signature.len() as u16).to_be_bytes();
    message(CERTIFICATE_VERIFY, &[&[0x04, 0x03][..], &length, signature].concat())
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(content.len() as u16).to_be_bytes(), content].concat()
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn hmac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, key), bytes).as_ref().to_vec()
}

fn derive(secret: &[u8], label: &str, context: &[u8]) -> Vec<u8> {
    expand(secret, label, context, 32)
}

/// HKDF-Expand-Label (RFC 8446, 7.1), for what fits one block.
fn expand(secret: &[u8], label: &str, context: &[u8], length: u8) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let info = [&[0, length, label.len() as u8][..], label.as_bytes(), &[context.len() as u8], context, &[1]];
    let mut block = hmac(secret, &info.concat());
    block.truncate(usize::from(length));
    block
}
