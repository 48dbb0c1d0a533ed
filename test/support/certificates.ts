// Certificates of a test's own, made by openssl: authorities, and what they sign.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Certificate {
  certFile: string
  keyFile: string
  cert: string
  key: string
}

/** False where there is no openssl to make certificates with. */
export const canMakeCertificates = spawnSync('openssl', ['version']).status === 0

const openssl = (dir: string, ...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' })
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

function filesOf(dir: string, name: string): Certificate {
  const [certFile, keyFile] = [join(dir, `${name}.pem`), join(dir, `${name}.key`)]
  return { certFile, keyFile, cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') }
}

/** A certificate for these names, signed by itself. */
export function selfSigned(dir: string, name: string, altNames: string): Certificate {
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${altNames}`]
  openssl(dir, 'req', '-x509', ...KEY, '-days', '2', ...subject, '-keyout', `${name}.key`, '-out', `${name}.pem`)
  return filesOf(dir, name)
}

/** A certificate for these names, signed by an authority made before; `expired`: years ago. */
export function signedBy(
  dir: string,
  authority: string,
  { name, altNames, expired = false }: { name: string; altNames: string; expired?: boolean },
): Certificate {
  openssl(dir, 'req', '-new', ...KEY, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
  writeFileSync(join(dir, 'index.txt'), '')
  writeFileSync(join(dir, 'serial'), '01\n')
  const settings = [
    '[ca]',
    'default_ca = one',
    '[one]',
    'database = index.txt',
    'serial = serial',
    'new_certs_dir = .',
    'default_md = sha256',
    'policy = any',
    'x509_extensions = names',
    '[any]',
    'commonName = supplied',
    '[names]',
    `subjectAltName = ${altNames}`,
  ]
  writeFileSync(join(dir, 'ca.conf'), `${settings.join('\n')}\n`)
  const [from, to] = expired ? ['20200101000000Z', '20210101000000Z'] : ['20200101000000Z', '20490101000000Z']
  const signer = ['-cert', `${authority}.pem`, '-keyfile', `${authority}.key`]
  const dates = ['-startdate', from, '-enddate', to]
  openssl(
    dir,
    'ca',
    '-batch',
    '-notext',
    '-config',
    'ca.conf',
    ...signer,
    ...dates,
    '-in',
    `${name}.csr`,
    '-out',
    `${name}.pem`,
  )
  return filesOf(dir, name)
}
