import { type DoctorRow, fail, pass, warn } from './doctor-row.ts'
import type { KeyFileFacts } from '../domain/installation-facts.ts'

/** A file that opens something: there when it was named, and readable by its owner alone. */
export function checkKeyFile(k: KeyFileFacts): DoctorRow {
  const subject = `${k.what} ${k.path}`
  if (!k.exists) {
    if (!k.isNamed) return pass('secrets', subject, { message: 'not there yet; it is made when it is needed' })
    return fail('secrets', subject, {
      code: 'file.unreadable',
      message: 'was named and is not there',
      evidence: { path: k.path },
    })
  }
  if (k.mode !== null && (k.mode & 0o077) !== 0) {
    const mode = k.mode.toString(8).padStart(3, '0')
    return warn('secrets', subject, {
      code: 'secrets.file_exposed',
      message: `others may read it (mode ${mode})`,
      evidence: { path: k.path, mode },
      remedy: `chmod 600 ${k.path}`,
    })
  }
  return pass('secrets', subject, { message: 'there, and readable by its owner alone' })
}
