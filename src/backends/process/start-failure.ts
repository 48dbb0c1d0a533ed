import type { JsonObject } from '../../base/index.ts'
import { Failure } from '../../domain/failure.ts'

/** What it means that the system did not run an executable that was found. */
export function startFailure(
  news: { errno: string | null; message: string },
  key: string,
  evidence: JsonObject,
): Failure {
  const options = { cause: news.message, evidence }
  // It was there and executable a moment ago, so what the kernel misses is what the file asks for.
  if (news.errno === 'ENOENT' || news.errno === 'EACCES') {
    const remediation =
      news.errno === 'ENOENT'
        ? 'The file exists but its loader does not: it was built for another libc. Build it for this machine, or link it statically.'
        : 'The kernel may not execute the file: its file system is mounted noexec, or a security policy forbids it.'
    return new Failure('backend.executable_missing', `starting ${key}`, { ...options, remediation })
  }
  if (news.errno === 'ENOSPC') return new Failure('backend.disk_full', `starting ${key}`, options)
  return new Failure('backend.start_failed', `starting ${key}`, options)
}
