//! Coconut: verifying a show.

use blstrs::G1Projective;

use crate::core::{challenge, framed, g1, g2, hash_to_g1, of_g1, of_g2, sha512, signed, Answer, Key, Reader};

const DOMAIN: &[u8] = b"NYMTW-CREDENTIALS-V1 coconut";

pub struct Parameters {
    private: usize,
    public: usize,
    nullifier_base: G1Projective,
    digest: [u8; 64],
}

impl Parameters {
    pub fn new(private: usize, public: usize) -> Self {
        let nullifier_base = hash_to_g1(&[DOMAIN, b"zeta"]);
        let mut parts = vec![DOMAIN.to_vec(), vec![private as u8, public as u8], of_g1(&g1()), of_g2(&g2())];
        parts.extend((1..=private + public).map(|i| of_g1(&hash_to_g1(&[DOMAIN, b"attribute", &[i as u8]]))));
        parts.push(of_g1(&nullifier_base));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Parameters { private, public, nullifier_base, digest: sha512(&framed(&parts)) }
    }
}

fn context_parts(data: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut reader = Reader::new(data, 0x13)?;
    let mut parts = Vec::new();
    for _ in 0..3 {
        let length = reader.byte()?;
        parts.push(reader.take(length)?.to_vec());
    }
    reader.end()?;
    Ok(parts)
}

pub fn verify(parameters: &Parameters, key: &Key, data: &[u8], context: &[u8]) -> Answer {
    let mut reader = Reader::new(data, 0x12)?;
    let (private, public) = (reader.count(1, 32)?, reader.count(0, 31)?);
    if (private, public) != (parameters.private, parameters.public) || key.betas.len() != private + public {
        return Err("wrong-count".to_string());
    }
    let kappa = reader.g2()?;
    let (nu, base, value, nullifier) = (reader.g1()?, reader.g1()?, reader.g1()?, reader.g1()?);
    let c = reader.scalar()?;
    let r = reader.scalar()?;
    let m = reader.scalars(private)?;
    let told = reader.scalars(public)?;
    reader.end()?;

    let mut elements = vec![
        parameters.digest.to_vec(),
        key.digest.to_vec(),
        of_g2(&kappa),
        of_g1(&nu),
        of_g1(&base),
        of_g1(&value),
        of_g1(&nullifier),
    ];
    elements.extend(told.iter().map(|value| value.to_bytes_be().to_vec()));
    let mut about_kappa = (kappa - key.alpha) * c + g2() * r;
    for (beta, response) in key.betas.iter().zip(&m) {
        about_kappa += beta * response;
    }
    let about_nu = nu * c + base * r;
    let about_nullifier = nullifier * c + parameters.nullifier_base * m[0];
    let commitments = [of_g2(&about_kappa), of_g1(&about_nu), of_g1(&about_nullifier)];
    if challenge(b"coconut show", &elements, &commitments, &context_parts(context)?) != c {
        return Err("bad-proof".to_string());
    }

    let mut message = kappa;
    for (beta, attribute) in key.betas[private..].iter().zip(&told) {
        message += beta * attribute;
    }
    if !signed(&[(base, value + nu, message)], data) {
        return Err("bad-signature".to_string());
    }
    Ok(hex::encode(of_g1(&nullifier)))
}
