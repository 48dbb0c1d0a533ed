import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'

/**
 * The text of a file that commands had in their hands; its size instead when that is more than `maxBytes`, null when it is no file. Whatever lies there, a
 * pipe nobody writes to as well, it is not waited for. Throws the system's error.
 */
export function readPlain(path: string, maxBytes: number): { text: string } | { bytes: number } | null {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const found = fstatSync(fd)
    if (!found.isFile()) return null
    return found.size > maxBytes ? { bytes: found.size } : { text: readFileSync(fd, 'utf8') }
  } finally {
    closeSync(fd)
  }
}
