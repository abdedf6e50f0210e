//! What both schemes share: decoding, hashing, the key, the transcript, a product of pairings.

use blstrs::{Bls12, G1Affine, G1Projective, G2Affine, G2Prepared, G2Projective, Scalar};
use ff::Field;
use group::{prime::PrimeCurveAffine, Curve, Group};
use pairing::{MillerLoopResult, MultiMillerLoop};
use sha2::{Digest, Sha512};

pub type Answer = Result<String, String>;

const HASH_TO_G1: &[u8] = b"NYMTW-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";

pub fn bytes(word: &str) -> Result<Vec<u8>, String> {
    hex::decode(word).map_err(|error| error.to_string())
}

/// Parts one behind the other, each with its length in front.
pub fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut whole = Vec::new();
    for part in parts {
        whole.extend_from_slice(&(part.len() as u32).to_be_bytes());
        whole.extend_from_slice(part);
    }
    whole
}

pub fn sha512(data: &[u8]) -> [u8; 64] {
    Sha512::digest(data).into()
}

/// A big-endian number of any length, reduced.
pub fn reduced(data: &[u8]) -> Scalar {
    let shift = Scalar::from(256);
    data.iter().fold(Scalar::ZERO, |value, byte| value * shift + Scalar::from(u64::from(*byte)))
}

pub fn hash_to_scalar(parts: &[&[u8]]) -> Scalar {
    reduced(&sha512(&framed(parts)))
}

pub fn hash_to_g1(parts: &[&[u8]]) -> G1Projective {
    G1Projective::hash_to_curve(&framed(parts), HASH_TO_G1, &[])
}

pub fn g1() -> G1Projective {
    G1Projective::generator()
}

pub fn g2() -> G2Projective {
    G2Projective::generator()
}

pub fn of_g1(point: &G1Projective) -> Vec<u8> {
    point.to_affine().to_compressed().to_vec()
}

pub fn of_g2(point: &G2Projective) -> Vec<u8> {
    point.to_affine().to_compressed().to_vec()
}

/// Takes fields from the front; all must be there, and nothing else.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8], kind: u8) -> Result<Self, String> {
        match data.split_first() {
            Some((first, rest)) if *first == kind => Ok(Reader(rest)),
            _ => Err("another type".to_string()),
        }
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        if self.0.len() < length {
            return Err("too short".to_string());
        }
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<usize, String> {
        Ok(usize::from(self.take(1)?[0]))
    }

    pub fn count(&mut self, least: usize, most: usize) -> Result<usize, String> {
        let number = self.byte()?;
        if number < least || number > most {
            return Err("a count that cannot be".to_string());
        }
        Ok(number)
    }

    pub fn g1(&mut self) -> Result<G1Projective, String> {
        let data: [u8; 48] = self.take(48)?.try_into().expect("48 bytes");
        let point = Option::<G1Affine>::from(G1Affine::from_compressed(&data)).ok_or("not a point of G1")?;
        if bool::from(point.is_identity()) || point.to_compressed() != data {
            return Err("the identity, or not canonical".to_string());
        }
        Ok(point.into())
    }

    pub fn g2(&mut self) -> Result<G2Projective, String> {
        let data: [u8; 96] = self.take(96)?.try_into().expect("96 bytes");
        let point = Option::<G2Affine>::from(G2Affine::from_compressed(&data)).ok_or("not a point of G2")?;
        if bool::from(point.is_identity()) || point.to_compressed() != data {
            return Err("the identity, or not canonical".to_string());
        }
        Ok(point.into())
    }

    pub fn scalar(&mut self) -> Result<Scalar, String> {
        let data: [u8; 32] = self.take(32)?.try_into().expect("32 bytes");
        Option::from(Scalar::from_bytes_be(&data)).ok_or_else(|| "a scalar above the order".to_string())
    }

    pub fn scalars(&mut self, number: usize) -> Result<Vec<Scalar>, String> {
        (0..number).map(|_| self.scalar()).collect()
    }

    pub fn end(self) -> Result<(), String> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err("bytes behind the end".to_string())
        }
    }
}

/// A verification key, and the digest that proofs name it by.
pub struct Key {
    pub alpha: G2Projective,
    pub betas: Vec<G2Projective>,
    pub digest: [u8; 64],
}

impl Key {
    pub fn read(data: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(data, 0x02)?;
        let count = reader.count(1, 32)?;
        let alpha = reader.g2()?;
        let betas = (0..count).map(|_| reader.g2()).collect::<Result<_, _>>()?;
        for _ in 0..count {
            reader.g1()?;
        }
        reader.end()?;
        Ok(Key { alpha, betas, digest: sha512(data) })
    }
}

/// The challenge over name, elements, commitments and context.
pub fn challenge(name: &[u8], elements: &[Vec<u8>], commitments: &[Vec<u8>], context: &[Vec<u8>]) -> Scalar {
    let lists = [elements, commitments, context];
    let counts: Vec<u8> = lists.iter().flat_map(|list| (list.len() as u32).to_be_bytes()).collect();
    let mut parts: Vec<&[u8]> = vec![b"NYMTW-CREDENTIALS-V1 proof", name, &counts];
    for list in lists {
        parts.extend(list.iter().map(Vec::as_slice));
    }
    hash_to_scalar(&parts)
}

/// Whether every signature (h, s) is one on its message: e(h, message) = e(s, g2), all in one product with weights.
pub fn signed(signatures: &[(G1Projective, G1Projective, G2Projective)], seed: &[u8]) -> bool {
    let mut left = Vec::new();
    let mut total = G1Projective::identity();
    for (number, (base, value, message)) in signatures.iter().enumerate() {
        let drawn = sha512(&framed(&[seed, &(number as u32).to_be_bytes()]));
        let weight = if number == 0 { Scalar::ONE } else { reduced(&drawn[..16]) };
        left.push(((base * weight).to_affine(), G2Prepared::from(message.to_affine())));
        total += value * weight;
    }
    left.push(((-total).to_affine(), G2Prepared::from(G2Affine::generator())));
    let pairs: Vec<(&G1Affine, &G2Prepared)> = left.iter().map(|(point, prepared)| (point, prepared)).collect();
    bool::from(Bls12::multi_miller_loop(&pairs).final_exponentiation().is_identity())
}
