import { formatBytes } from './format-bytes.ts'
import { LIMITS } from '../domain/limits.ts'
import { type DoctorRow, fail, pass, warn } from './doctor-row.ts'
import type { DirectoryFacts } from '../domain/installation-facts.ts'

/** One directory: may it be written, and is there room and inodes. The thresholds are LIMITS.disk…. */
export function checkDirectory(d: DirectoryFacts): DoctorRow {
  const subject = `${d.use} ${d.path}`
  const share = d.totalInodes > 0 ? d.freeInodes / d.totalInodes : 1
  const evidence = {
    path: d.path,
    ...(d.measured === d.path ? {} : { measured: d.measured }),
    freeBytes: d.freeBytes,
    totalBytes: d.totalBytes,
    ...(d.totalInodes > 0 ? { freeInodes: d.freeInodes, totalInodes: d.totalInodes } : {}),
  }
  if (!d.isWritable) {
    return fail('disk', subject, {
      code: d.use === 'workspace' ? 'backend.workspace_not_writable' : 'storage.not_writable',
      message: `${d.measured} cannot be written${d.errorCode === null ? '' : ` (${d.errorCode})`}`,
      evidence: { ...evidence, errorCode: d.errorCode },
    })
  }
  if (d.freeBytes < LIMITS.diskFullBytes || share < LIMITS.inodesFullShare) {
    const what = d.freeBytes < LIMITS.diskFullBytes ? formatBytes(d.freeBytes) : `${d.freeInodes} inodes`
    return fail('disk', subject, {
      code: d.use === 'workspace' ? 'backend.disk_full' : 'storage.disk_full',
      message: `${what} free`,
      evidence: { ...evidence, failsBelowBytes: LIMITS.diskFullBytes, failsBelowInodeShare: LIMITS.inodesFullShare },
    })
  }
  if (d.freeBytes < LIMITS.diskLowBytes || share < LIMITS.inodesLowShare) {
    const what = d.freeBytes < LIMITS.diskLowBytes ? formatBytes(d.freeBytes) : `${d.freeInodes} inodes`
    return warn('disk', subject, {
      code: 'host.disk_low',
      message: `only ${what} free`,
      evidence: { ...evidence, warnsBelowBytes: LIMITS.diskLowBytes, warnsBelowInodeShare: LIMITS.inodesLowShare },
    })
  }
  const there = d.exists ? '' : ', made when it is needed'
  return pass('disk', subject, { message: `${formatBytes(d.freeBytes)} free${there}`, evidence })
}
